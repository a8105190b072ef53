"""The Python of docs/start.md trains, and reads what a run has written; its lists are complete."""

import re
import shlex
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from support import pages
from support.groups import random_groups
from support.pages import ROOT
from support.small_fit import fit, model_of

from lit_longpo.command_line.familiar_options import familiar
from lit_longpo.engine import pack, score
from lit_longpo.policy import LoRA, PolicyConfig

PAGE = "docs/start.md"


def test_the_python_example_trains(tmp_path, monkeypatch):
    code = pages.snippet(PAGE, "## Use it from Python")
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
    exec(pages.snippet(PAGE, "## Your own model and your own data"), names)
    names["model"].eval().base_model.model.set_attn_implementation("prefix_shared")
    row = pack(random_groups([(20, [3, 4])]))
    torch.testing.assert_close(score(names["model"], row).sums, score(trained, row).sums, rtol=1e-6, atol=1e-5)
    assert names["tokenizer"].eos_token is not None


def rows_of_trl():
    """What TRL calls something, and the options that it has here."""
    rows = pages.text(PAGE).partition("## If you know TRL")[2].partition("\n\nOther names")[0].splitlines()
    for row in rows:
        names, ours = (re.findall(r"`([^`]+)`", cell) for cell in (row.split("|")[1:3] if "`" in row else ("", "")))
        yield from ((name, [text.split()[0] for text in ours]) for name in names if not name.endswith("Trainer"))


def test_names_of_trl_are_answered_with_what_the_table_says():
    sections = {"policy", "trainer", "data", "model", "optimization", "reference", "ckpt_path"}
    found = dict(rows_of_trl())
    assert len(found) > 12
    for name, ours in found.items():
        assert set(shlex.split(familiar(name, sections))) & set(ours), name


def objectives_with_short_names():
    """Fragments of objectives that the package exports; the others are named by their full path."""
    fragments = sorted((ROOT / "configs/objective").glob("*.yaml"))
    return [path for path in fragments if re.search(r"^class_path: \w+$", path.read_text(), re.M)]


@pytest.mark.parametrize("fragment", objectives_with_short_names(), ids=lambda path: path.stem)
def test_every_objective_is_in_the_lists(fragment):
    name = re.search(r"^class_path: (\w+)", fragment.read_text(), re.M)[1]
    choices = re.search(r"objectives `([\w ]+)`", pages.text(PAGE))[1].split()
    fragments = re.search(r"objective/\{([\w,]+)\}", pages.text("configs/README.md"))[1].split(",")
    rows = [line for line in pages.text("docs/objectives.md").splitlines() if line.startswith("| ")]
    assert name in choices
    assert fragment.stem in fragments
    assert name in re.findall(r"\w+", " ".join(line.split("|")[1] for line in rows))
