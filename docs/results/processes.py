"""The processes that cells run in, and the machine that they run on."""

import contextlib
import multiprocessing
import os
import runpy
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

_LIBRARIES = ("lit_longpo.__main__", "lit_longpo.cli", "data_modules", "evaluation", "lit_longpo.objectives")


def work(program: str, words: Sequence[str], log: str, accelerator: bool) -> None:
    """What a cell's process does: `python -m PROGRAM WORDS` with its output in a file."""
    with open(log, "ab", buffering=0) as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    if not accelerator:  # whoever feeds one goes first
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        os.nice(5)
    sys.argv = [f"python -m {program}", *words]
    try:
        if program == "lit_longpo":
            from lit_longpo.__main__ import main

            main(words)
        else:
            runpy.run_module(program, run_name="__main__", alter_sys=True)
    finally:
        sys.stdout.flush()


@cache
def machine_of(commit: str | None) -> dict[str, Any]:
    """Where this runs."""
    from benchmarks.machine import describe

    return {**describe(), **({"commit": commit} if commit else {})}


def processes(start: str) -> Any:
    """A way to make processes that have imported the libraries and have not touched a GPU."""
    os.environ.update({"PYTORCH_NVML_BASED_CUDA_CHECK": "1", "TOKENIZERS_PARALLELISM": "false"})
    for name, value in {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}.items():
        os.environ.setdefault(name, value)
    context = multiprocessing.get_context(start)
    if start == "forkserver":
        context.set_forkserver_preload(["results.running", *_LIBRARIES])
    return context


def end(running: Iterable[BaseProcess]) -> None:
    """Kill them."""
    running = list(running)
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    for process in running:
        process.join(10)


def end_of(path: Path) -> str:
    """The last 1,500 characters of a file; empty if there is none."""
    return path.read_text(errors="replace")[-1500:] if path.exists() else ""
