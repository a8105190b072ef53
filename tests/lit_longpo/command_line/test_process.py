"""How a process is set up before a command runs in it."""

import gc
import importlib
import sys

import pytest

from lit_longpo.command_line.process import importing


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
