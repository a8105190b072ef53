"""Recipes are found from any folder, through the real command line; and they are in the wheel."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from jsonargparse import strip_meta
from support.command_line import CONFIGS, parse

from data_modules.builders.command import build_parser
from evaluation.command import evaluate_parser
from lit_longpo import __main__ as command
from lit_longpo.cli import LongPOCLI
from lit_longpo.command_line import recipes
from lit_longpo.command_line.parser import SuggestingParser
from lit_longpo.command_line.recipes import shipped_names, with_files
from lit_longpo.errors import InputError, MissingFileError
from lit_longpo.optimization import Optimization
from lit_longpo.policy import PolicyConfig

ROOT = CONFIGS.parent


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def read(*words):
    """What a parser of two sections makes of the words."""
    parser = SuggestingParser()
    parser.add_argument("--config", "-c", action="config")
    parser.add_class_arguments(PolicyConfig, "policy")
    parser.add_class_arguments(Optimization, "optimization")
    return parser.parse_args([str(word) for word in words])


def test_a_shipped_recipe_is_found_from_any_folder():
    named = parse("--config=dpo", "-c", "overlays/bf16", "--data", "configs/data/pairs.yaml", "--policy", "model/tiny")
    files = ("--config", CONFIGS / "dpo.yaml", "--config", CONFIGS / "overlays/bf16.yaml")
    files += ("--data", CONFIGS / "data/pairs.yaml", "--policy", CONFIGS / "model/tiny.yaml")
    assert strip_meta(named) == strip_meta(parse(*files))


@pytest.mark.usefixtures("capsys")
def test_a_file_is_looked_through_once(monkeypatch):
    """The command's parser and that of its subcommand both see the words; files of a section are asked for again."""
    looked = Counter()
    monkeypatch.setattr(recipes, "check_plain", lambda path: looked.update([path]))
    with pytest.raises(SystemExit):
        command.main(["fit", "--config", "solopo", "--print_config"])
    assert {CONFIGS / "solopo.yaml", CONFIGS / "objective/solopo.yaml", CONFIGS / "model/tiny.yaml"} <= looked.keys()
    assert set(looked.values()) == {1}


@pytest.mark.parametrize("name", ["solopo", "solopo.yaml", "configs/solopo", "configs/solopo.yaml"])
def test_its_name_may_be_written_like_its_path(name):
    path = str(CONFIGS / "solopo.yaml")
    assert with_files(["--config", name, f"-c={name}"]) == ["--config", path, f"-c={path}"]


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["--data", "mine.jsonl"], "type --data.path mine.jsonl "),
        (["--data", "folder"], "type --data.path folder "),
        (["--source", "mine.json"], "type --source.paths '[mine.json]'"),
        (["--benchmark", "mine.csv"], "type --benchmark.path mine.csv"),
        (["--policy", "folder"], "type --policy.source folder"),
        (["--model", "folder"], "type --policy.source folder"),
        (["--model", "notes"], "got notes; of a folder or hub name type"),
        (["--policy", "some/hub-name"], "type --policy.source some/hub-name"),
        (["--policy", "smollm2_135m"], "did you mean model/smollm2_135m?"),
        (["--policy", "model/smolm2"], "did you mean model/smollm2_135m?"),
    ],
)
def test_data_and_models_are_no_fragments(words, advice, tmp_path):
    """Which option takes what was given to the section."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes").write_text("Ada lives in Oslo.")
    with pytest.raises(InputError, match=re.escape(advice)):
        with_files(words)


@pytest.mark.parametrize(
    ("room", "advice"), [("eval", "--benchmark.path q.jsonl"), ("build", "--source.paths '[q.jsonl]'")]
)
def test_a_command_without_data_says_what_takes_it(room, advice):
    """It was once sent to `--data.path`, which `evaluate` has as little."""
    with pytest.raises(InputError, match=f"expected an option of this command, got --data .*{re.escape(advice)}"):
        with_files(["--data", "q.jsonl"], room)


@pytest.mark.parametrize("words", [["--model", "DPO"], ["--policy", "{source: x}"], ["--data", "my.Data"]])
def test_classes_and_settings_stay_as_they_are(words):
    assert with_files(words) == words


def test_an_argument_of_a_class_needs_a_config(capsys):
    with pytest.raises(SystemExit, match="2"):
        LongPOCLI(args=["fit", "--data.path", "x"])
    assert "expected a --config in front of --data.path" in capsys.readouterr().err


def test_typed_values_win_over_a_fragment_that_is_named():
    assert read("--policy.dtype", "bfloat16", "--policy", "model/tiny").policy.dtype == "bfloat16"


def test_fragments_lie_beside_the_file_or_in_the_current_folder_or_among_ours(tmp_path):
    (tmp_path / "sub/deep").mkdir(parents=True)
    (tmp_path / "sub/mine.yaml").write_text("policy: model/tiny.yaml\noptimization: deep/opt.yaml\n")
    (tmp_path / "sub/deep/opt.yaml").write_text("warmup_fraction: 0.25\n")
    (tmp_path / "other.yaml").write_text("policy: configs/model/tiny.yaml\noptimization: here.yaml\n")
    (tmp_path / "sub/third.yaml").write_text("optimization: here.yaml\n")
    (tmp_path / "here.yaml").write_text("warmup_fraction: 0.5\n")
    ours = read("--policy", CONFIGS / "model/tiny.yaml").policy.template.user
    for file, share in (("sub/mine.yaml", 0.25), ("other.yaml", 0.5)):
        values = read("--config", file)
        assert (values.policy.template.user, values.optimization.warmup_fraction) == (ours, share)
    assert read("--config", "sub/third.yaml").optimization.warmup_fraction == 0.5


def test_the_nearer_of_two_fragments_wins(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "recipe.yaml").write_text("optimization: opt.yaml\n")
    for folder, share in ((tmp_path, 0.25), (tmp_path / "sub", 0.5)):
        (folder / "opt.yaml").write_text(f"warmup_fraction: {share}\n")
    assert read("--config", "sub/recipe.yaml").optimization.warmup_fraction == 0.5


def test_a_local_file_wins_and_that_is_said(tmp_path, caplog):
    caplog.set_level("INFO")
    ours, local = CONFIGS / "overlays/bf16.yaml", tmp_path / "overlays/bf16.yaml"
    local.parent.mkdir()
    shutil.copy(ours, local)
    read("--config", "overlays/bf16")
    assert "of this folder" not in caplog.text  # the same
    local.write_text("policy: {dtype: float16}\n")
    assert read("--config", "overlays/bf16").policy.dtype == "float16"
    assert "reading overlays/bf16.yaml of this folder, not the bf16.yaml that comes with lit_longpo" in caplog.text


def test_a_file_of_the_users_is_meant_first(capsys, tmp_path):
    for theirs in ("my_soloop.yaml", "my_loposo.yml"):
        (tmp_path / theirs).touch()
        for name in ("my_solopo.yaml", "my_solopo", tmp_path / "my_solopo.yaml"):
            with pytest.raises(SystemExit):
                read("--config", str(name))
            assert f"did you mean {Path(name).with_name(theirs)}" in capsys.readouterr().err
        (tmp_path / theirs).unlink()


@pytest.mark.parametrize(
    ("name", "hint"),
    [("sollpo", "did you mean solopo"), ("overlays/bf61", "did you mean overlays/bf16"), ("xyz", "named: dpo, ipo, ")],
)
def test_an_unknown_name_lists_near_ones(name, hint, capsys, tmp_path):
    with pytest.raises(SystemExit, match="2"):
        read("--config", name)
    error, where = capsys.readouterr().err.splitlines()
    assert f"got {name}, which is neither in {tmp_path} nor comes with lit_longpo" in error
    assert hint in error
    assert "--help" in where


def test_an_unknown_fragment_inside_a_file_too(tmp_path):
    (tmp_path / "mine.yaml").write_text("policy: model/tinny.yaml\n")
    with pytest.raises(MissingFileError, match=r"got model/tinny\.yaml, .* did you mean model/tiny"):
        read("--config", "mine.yaml")


def test_every_command_looks_into_its_own_room_first():
    assert build_parser().parse_args(["--config", "solopo"]).output == "runs/build/solopo"
    assert build_parser().parse_args(["--config", "build/logo"]).output == "runs/build/logo"
    assert evaluate_parser().parse_args(["--config", "needle"]).output == "runs/eval/needle"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The unpacked wheel of this tree."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("lit_longpo", "data_modules", "evaluation", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    script = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", script, str(target)], cwd=source, check=True, capture_output=True)
    with zipfile.ZipFile(next(target.glob("*.whl"))) as archive:
        archive.extractall(target)
    return target


def test_recipes_and_the_console_script_are_in_the_wheel(wheel):
    packed = sorted(path.relative_to(wheel) for path in (wheel / "lit_longpo/configs").rglob("*.yaml"))
    assert [path.relative_to("lit_longpo") for path in packed] == sorted(
        path.relative_to(ROOT) for path in CONFIGS.rglob("*.yaml")
    )
    assert not (wheel / "configs").exists()
    entries = next(wheel.glob("*.dist-info")).joinpath("entry_points.txt").read_text()
    assert "lit_longpo = lit_longpo.__main__:main" in entries


def test_an_installed_package_names_the_recipes_in_it(wheel):
    script = "from lit_longpo.command_line import recipes as r; print(r.shipped('solopo')); print(r.shipped_names())"
    environment = os.environ | {"PYTHONPATH": str(wheel)}
    printed = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True).stdout
    assert printed.splitlines() == [str(wheel / "lit_longpo/configs/solopo.yaml"), str(shipped_names())]


def test_a_sections_fragment_is_found_behind_an_equals_sign_too():
    [word] = with_files(["--trainer=trainer/smoke"])
    assert word == with_files(["--trainer", "trainer/smoke"])[0] + "=" + with_files(["--trainer", "trainer/smoke"])[1]
    assert word.endswith("configs/trainer/smoke.yaml")
    assert with_files(["--model=DPO", "--seed_everything=1"]) == ["--model=DPO", "--seed_everything=1"]
