"""Trainings in processes of their own, shared by the tests of checkpoints and of the export."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


def run_program(name, *arguments, timeout=900):
    """A program of tests/support, to its end."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "tests" / "support" / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=timeout, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="session")
def resumed_run(tmp_path_factory):
    """Folder and results of a strategy's runs (tests/support/resume_worker.py); each is started once."""

    @cache
    def start(strategy):
        folder = tmp_path_factory.mktemp(strategy)
        run_program("resume_worker.py", strategy, folder)
        return folder, torch.load(folder / "result.pt", weights_only=True)

    return start


@pytest.fixture(scope="session")
def killed_runs(tmp_path_factory):
    """Losses by step of every training of tests/support/kill_worker.py, in the order they were computed."""
    folder = tmp_path_factory.mktemp("killed")
    run_program("kill_worker.py", folder)
    lines = {path.stem: [line.split() for line in path.read_text().splitlines()] for path in folder.glob("*.txt")}
    return {name: [(int(step), loss) for step, loss in rows] for name, rows in lines.items()}
