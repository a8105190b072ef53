"""The notebook: stripped, free of this machine, of names that exist; a slow test runs it."""

import ast
import importlib
import itertools
import json
import os
import re

import pytest
from support.pages import ROOT

from lit_longpo import __main__ as command
from lit_longpo.command_line.recipes import shipped

PATH = ROOT / "docs/own_documents.ipynb"
NOTEBOOK = json.loads(PATH.read_text())
CODE = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
TREES = [ast.parse(code) for code in CODE]


def calls():
    """Constant words of each command: the command first; what is computed is left out."""
    for tree in TREES:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "lit_longpo":
                words = [item for part in node.args for item in ast.walk(part) if isinstance(item, ast.Constant)]
                yield [item.value for item in sorted(words, key=lambda item: (item.lineno, item.col_offset))]


def test_it_is_stripped_and_names_no_machine():
    assert (NOTEBOOK["nbformat"], len(CODE)) == (4, 7)
    for cell in NOTEBOOK["cells"]:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
    assert not re.search(r"/(home|root|work|tmp|Users)/|https?://", PATH.read_text())


def test_what_it_imports_and_names_exists():
    for node in (node for tree in TREES for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)):
        module = importlib.import_module(node.module)
        assert all(hasattr(module, alias.name) for alias in node.names)
    found = list(calls())
    assert {words[0] for words in found} == {"build", "evaluate", "fit", "ask"}
    for words in found:
        assert words[0] in command.COMMANDS
        configs = [value for option, value in itertools.pairwise(words) if option == "--config"]
        assert all(shipped(name) for name in configs)
        assert configs or "--compare" in words or words[0] == "ask"


@pytest.mark.parametrize("name", ["build", "evaluate", "fit", "ask"])
def test_its_options_are_options_of_the_command(name):
    known = command.stored_help(name)
    options = {word.split(".")[0] for words in calls() if words[0] == name for word in words if str(word)[:2] == "--"}
    assert options
    assert not [option for option in options if option not in known and option != "--compare"]


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if importlib.util.find_spec("nbclient") and importlib.util.find_spec("ipykernel"):
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        nbformat, nbclient = importlib.import_module("nbformat"), importlib.import_module("nbclient")
        nbclient.NotebookClient(nbformat.read(PATH, as_version=4), timeout=1200).execute()
    else:
        names = {}
        for code in CODE:
            exec(code, names)
        assert "margin of the first" in capsys.readouterr().out
    folder = tmp_path / "runs/notebook"
    before, after = (json.loads((folder / name / "qa-step0.json").read_text()) for name in ("before", "after"))
    assert len(before["predictions"]) == len(after["predictions"]) == 200
    assert after["model"].startswith("runs/notebook/lightning_logs/version_0/model")
    gains = [new["score"] - old["score"] for old, new in pairs_of(before, after)]
    assert 10 < sum(gains) < 70  # +16 points of 200 questions when it was written; the interval began at 7
    assert "<table>" in (folder / "after/qa-step0.html").read_text()


def pairs_of(before, after):
    return zip(before["predictions"], after["predictions"], strict=True)
