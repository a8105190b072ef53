"""Trainings in processes of their own, shared by the tests of checkpoints and of the export."""

import os
from functools import cache

import pytest
import torch
from filelock import FileLock
from support import kill_worker, resume_worker
from support.ranks import run_ranks


@pytest.fixture(scope="session")
def resumed_run(tmp_path_factory):
    """Folder and results of a strategy's runs (tests/support/resume_worker.py); each is started once.

    That is, by whichever worker of pytest-xdist comes first.
    """
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    @cache
    def start(strategy):
        folder = shared / strategy
        with FileLock(shared / f"{strategy}.lock"):
            if not (folder / "result.pt").exists():
                run_ranks(resume_worker.main, strategy, folder, num_ranks=resume_worker.num_ranks(strategy))
        return folder, torch.load(folder / "result.pt", weights_only=True)

    return start


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory):
    """Losses by step of a training of tests/support/kill_worker.py that nothing kills."""
    folder = tmp_path_factory.mktemp("whole")
    run_ranks(kill_worker.train, folder, "whole", num_ranks=1)
    return kill_worker.losses(folder / "whole.txt")
