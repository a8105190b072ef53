"""What the README shows must work: its Python example, its files, its tree; what its neighbours name must exist."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from support import families
from support.groups import random_groups
from support.reports import table_of
from support.small_fit import fit, model_of

from evaluation.benchmark import Benchmark
from evaluation.reports.pages import Pages
from evaluation.running.responses import Responses
from evaluation.running.runner import Runner
from evaluation.running.settings import RunSettings
from lit_longpo import __main__ as command
from lit_longpo.engine import pack, score
from lit_longpo.policy import LoRA, PolicyConfig

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def example(heading):
    return README.partition(heading)[2].partition("```python\n")[2].partition("```")[0]


def test_the_python_example_trains(tmp_path, monkeypatch):
    code = example("## Use it from Python")
    monkeypatch.chdir(tmp_path)
    assert "max_steps=20" in code
    names: dict[str, object] = {}
    code = code.replace("max_steps=20", "max_steps=2, accelerator='cpu', enable_progress_bar=False")
    exec(code.replace("DataModule(views", "DataModule(num_train=32, num_val=4, views"), names)
    assert isinstance(names["trainer"], Trainer)
    assert names["trainer"].global_step == 2


def test_the_shown_way_reads_a_trained_model_of_the_hardest_kind(policy_folder, tmp_path, monkeypatch):
    """DoRA: transformers alone reads another model."""
    folder = tmp_path / "runs/lightning_logs/version_0"
    trained = model_of(fit(PolicyConfig(source=str(policy_folder), lora=LoRA(r=2, use_dora=True)), folder))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(example("## Your own model and your own data"), names)
    names["model"].eval().base_model.model.set_attn_implementation("prefix_shared")
    row = pack(random_groups([(20, [3, 4])]))
    torch.testing.assert_close(score(names["model"], row).sums, score(trained, row).sums, rtol=1e-6, atol=1e-5)
    assert names["tokenizer"].eos_token is not None


PAGES = ("README.md", "CONTRIBUTING.md", "AGENTS.md")
FOLDERS = ("configs", "lit_longpo", "data_modules", "evaluation", "tests", "docs")


def paths():
    for page in PAGES:
        text = re.sub(r"\{([^}]*)\}", r"\1", (ROOT / page).read_text())
        found = re.findall(rf"\b(?:{'|'.join(FOLDERS)})/[\w./-]+\.\w+", text)
        yield from ((page, path) for path in sorted(set(found)))


@pytest.mark.parametrize(("page", "path"), paths())
def test_files_it_names_exist(page, path):
    assert (ROOT / path).exists(), page


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / page).read_text()):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def tree():
    """Every path of the annotated tree: an indented name, below the last name that is indented less."""
    lines = README.partition("## The tree\n")[2].partition("\n[")[0].splitlines()
    parents = list[tuple[int, Path]]()
    for line in filter(str.strip, lines):
        name, indent = line.split()[0], len(line) - len(line.lstrip())
        parents = [(depth, path) for depth, path in parents if depth < indent]
        parents.append((indent, (parents[-1][1] if parents else Path()) / name))
        yield parents[-1][1]


def objectives_with_short_names():
    """Fragments of objectives that the package exports; the others are named by their full path."""
    fragments = sorted((ROOT / "configs/objective").glob("*.yaml"))
    return [path for path in fragments if re.search(r"^class_path: \w+$", path.read_text(), re.M)]


@pytest.mark.parametrize("fragment", objectives_with_short_names(), ids=lambda path: path.stem)
def test_every_objective_is_in_the_lists(fragment):
    name = re.search(r"^class_path: (\w+)", fragment.read_text(), re.M)[1]
    choices = re.search(r"objectives `([\w ]+)`", README)[1].split()
    fragments = re.search(r"objective/\{([\w,]+)\}", (ROOT / "configs/README.md").read_text())[1].split(",")
    rows = README.partition("## Objectives")[2].partition("*short* and *long*")[0].splitlines()
    assert name in choices
    assert fragment.stem in fragments
    assert name in re.findall(r"\w+", " ".join(line.split("|")[1] for line in rows if line.startswith("|")))


def test_the_tree_names_what_is_there_and_every_folder_of_the_packages():
    named = set(tree())
    assert not [path for path in named if not (ROOT / path).exists()]
    folders = {path.relative_to(ROOT) for package in FOLDERS[1:4] for path in (ROOT / package).rglob("*/")}
    assert len(folders) > 20
    assert not {path for path in folders if path.name != "__pycache__"} - named


@pytest.fixture
def benchmark():
    names = {}
    exec(example("### A benchmark of your own"), names)
    return names["Capitals"]()


def test_the_shown_benchmark_runs_and_has_a_report(benchmark, policy_folder, tmp_path):
    assert isinstance(benchmark, Benchmark)
    policy = PolicyConfig(source=str(policy_folder))
    runner = Runner(benchmark, policy.load(), policy.prompt_format(), RunSettings(max_length=200), Responses())
    report = runner.run(name="tiny")
    assert [item.id for item in report.predictions] == ["europe/Norway", "europe/Italy"]
    assert set(report.tables) == {"europe"}
    assert len(Pages(report).write(tmp_path)) == 3
    assert "our own, version 1" in Pages(report).html()


def test_the_shown_benchmark_is_asked_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [path for path in sys.path if path])
    (tmp_path / "capitals.py").write_text(example("### A benchmark of your own"))
    assert "--trainer.callbacks+ BenchmarkCallback --trainer.callbacks.benchmark capitals.Capitals" in README
    callback = ["--trainer.callbacks+", "BenchmarkCallback", "--trainer.callbacks.benchmark", "capitals.Capitals"]
    with pytest.raises(SystemExit):
        command.main(["fit", "--config", "solopo", *callback, "--print_config"])
    assert "class_path: capitals.Capitals" in capsys.readouterr().out
    command.main(["evaluate", "--benchmark", "capitals.Capitals", "--model", "embedded", "--output", "runs/capitals"])
    assert (tmp_path / "runs/capitals/capitals-step0.json").is_file()


def test_the_shown_benchmark_scores_what_it_asks(benchmark):
    assert table_of(benchmark, list(benchmark.examples("europe")), ["It is Oslo.", "Oslo"]) == {"score": 50.0}


def test_the_families_are_those_with_twins():
    assert set(families.shown_cells()) == {families.called(name) for name in families.NAMES}
    assert families.table({"x": ("y",) * 6}).splitlines()[:2] == families.shown().splitlines()[:2]


@pytest.mark.parametrize("name", ["GptOss", "Lfm2", "StableLm"])
def test_what_it_says_of_a_family_is_measured(name):
    """One of each kind; the rest, and 4-bit weights, in the next test."""
    *shown, _, compared = families.shown_cells()[families.called(name)]
    assert families.measured(name, packs=False) == (*shown, "", compared)


@pytest.mark.slow
def test_the_table_of_families_is_what_their_twins_do():
    pytest.importorskip("bitsandbytes", reason='needs pip install "lit_longpo[quantized]"')
    measured = {name: families.measured(name) for name in families.NAMES}
    assert families.table(measured) == families.shown(), "type: make families"
