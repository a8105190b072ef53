"""How a process is set up before a command runs in it."""

import gc
import importlib
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from lit_longpo import __main__ as command
from lit_longpo.command_line import process
from lit_longpo.command_line.process import importing, refuse_other_parser

ROOT = Path(__file__).resolve().parents[3]


def test_nothing_is_collected_while_libraries_are_imported(monkeypatch):
    with importing():
        assert gc.isenabled()  # torch was there: this process is not ours alone
    monkeypatch.delitem(sys.modules, "torch")
    try:
        with importing():
            assert not gc.isenabled()
        assert gc.isenabled()
        with pytest.raises(ImportError), importing():
            importlib.import_module("no_such_library")
        assert gc.isenabled()
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()


@pytest.mark.parametrize("version", ["4.50.1", "4.54.0", "5.0.0"])
def test_a_parser_whose_inner_parts_are_not_known_is_one_line(version, monkeypatch):
    """It ended in an ImportError's traceback, or took typed texts for YAML without a word."""
    monkeypatch.setattr(process, "version", lambda name: {"jsonargparse": version}[name])
    with pytest.raises(SystemExit, match=rf"expected jsonargparse \S+, whose .*, got {version}; type: pip install"):
        command.main(["plan"])


def test_its_versions_are_those_that_are_installed():
    refuse_other_parser()
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    [wanted] = [one for one in map(Requirement, declared) if one.name == "jsonargparse"]
    assert wanted.specifier == process._PARSERS
