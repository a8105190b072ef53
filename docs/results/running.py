"""Runs the cells of suites: several at a time, what is finished is skipped, what was killed is started anew."""

import contextlib
import json
import multiprocessing
import os
import re
import runpy
import shutil
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from results.cells import Cell, Settings, Suite
from results.outcomes import STORED, collect, keep_configuration, load

_DONE, _LOG = "done.json", "log.txt"
_STEPS = re.compile(r"\{steps (\S+) (\S+)\}")
_LIBRARIES = ("lit_longpo.__main__", "lit_longpo.cli", "data_modules", "evaluation", "lit_longpo.objectives")


@dataclass
class Job:
    """A cell of a suite and where it stands.

    Args:
        suite: of the cell.
        cell: what runs.
        folder: of the suite's runs.
        stored: of its results.
        identities: of its commands, by key.
    """

    suite: Suite
    cell: Cell
    folder: Path
    stored: Path
    identities: Mapping[str, str]

    @property
    def name(self) -> str:
        """Of suite and cell."""
        return f"{self.suite.name}/{self.cell.key}"

    @property
    def run(self) -> Path:
        """Its own folder."""
        return self.folder / self.cell.key

    def is_finished(self, cell: Cell) -> bool:
        """Whether a cell of the suite has ended well with the command that it has now, here or where results are from.

        What was put into the folder by hand says nothing about its command.
        """
        places = [self.folder / cell.key / _DONE, *([self.stored / f"{cell.key}.json"] if cell.is_scored else [])]
        found = (json.loads(path.read_text()).get("identity") for path in places if path.exists())
        return any(identity in (None, self.identities[cell.key]) for identity in found)

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.is_finished(self.cell)


@dataclass
class Runner:
    """Starts cells, a process each, until all are done or the time is up.

    Args:
        suites: what to run, each for its settings.
        jobs: processes on the accelerator (or on the cores, where that is "cpu") at a time.
        cpu_jobs: of cells that want no accelerator, beside them.
        minutes: after which running cells are ended; `None` means no limit.
        patterns: of keys.
        start: how processes are made: "forkserver" imports the libraries once, "spawn" in each.
        pack: file that results are packed into after every cell.
        stored: folder of the results.
        commit: of the code, where it lies without its history.
    """

    suites: Mapping[str, tuple[Suite, Settings]]
    jobs: int = 1
    cpu_jobs: int = 0
    minutes: float | None = None
    patterns: Sequence[str] = ()
    start: str = "forkserver"
    pack: Path | None = None
    stored: Path = STORED
    commit: str | None = None
    _failed: set[str] = field(default_factory=set)

    def run(self) -> bool:
        """Run; whether every cell has ended well."""
        began = time.monotonic()
        waiting = self._jobs()
        print(f"{len(waiting)} cells to run", flush=True)
        running = dict[BaseProcess, tuple[Job, float]]()
        context = _processes(self.start)
        while waiting or running:
            if self.minutes is not None and time.monotonic() - began > 60 * self.minutes:
                print(f"time is up: {len(running)} cells ended, {len(waiting)} not begun", flush=True)
                _end(running)
                break
            self._reap(running)
            if not self._begin(waiting, running, context) and not running:
                break
            time.sleep(0.2)
        self._pack()
        return not self._jobs()

    def _jobs(self) -> list[Job]:
        """What is not finished, of all suites, those of the accelerator and of the cores each in order of worth."""
        jobs = list[Job]()
        for suite, settings in self.suites.values():
            folder, stored = settings.work / suite.name, self.stored / suite.name
            any_cell = Job(suite, Cell("", ()), folder, stored, suite.identities(settings))
            left = suite.cells(settings, self.patterns, any_cell.is_finished)
            jobs += [replace(any_cell, cell=cell) for cell in left]
        return jobs

    def _begin(self, waiting: list[Job], running: Mapping[BaseProcess, tuple[Job, float]], context: Any) -> bool:
        """Start the next cells that may start; whether there was one."""
        begun = False
        for job in list(waiting):
            busy = sum(other.cell.device == job.cell.device for other, _ in running.values())
            room = self.cpu_jobs if job.cell.device == "cpu" else self.jobs
            if any(f"{job.suite.name}/{key}" in self._failed for key in job.cell.after):
                print(f"left out: {job.name}, what it comes after has failed", flush=True)
                self._failed.add(job.name)
                waiting.remove(job)
            elif busy < room and not self._pending(job, waiting, running):
                waiting.remove(job)
                process = self._started(job, context)
                running[process] = (job, time.monotonic())  # type: ignore[index]
                begun = True
        return begun

    def _pending(self, job: Job, waiting: Sequence[Job], running: Mapping[BaseProcess, tuple[Job, float]]) -> bool:
        """Whether something that it comes after is not finished."""
        unfinished = {other.name for other in (*waiting, *(other for other, _ in running.values()))}
        return any(f"{job.suite.name}/{key}" in unfinished for key in job.cell.after)

    def _started(self, job: Job, context: Any) -> BaseProcess:
        if job.run.exists():
            shutil.rmtree(job.run)  # killed before its end
        job.run.mkdir(parents=True)
        words = filled(job.cell, job.run, job.stored)
        accelerator = self.suites[job.suite.name][1].accelerator == "gpu" and job.cell.device != "cpu"
        process = context.Process(target=work, args=(job.cell.program, words, str(job.run / _LOG), accelerator))
        process.start()
        print(f"begun: {job.name}", flush=True)
        return process

    def _reap(self, running: dict[BaseProcess, tuple[Job, float]]) -> None:
        for process in [process for process in running if process.exitcode is not None]:
            job, since = running.pop(process)
            seconds = time.monotonic() - since
            problem = self._kept(job, process.exitcode or 0, seconds, len(running) + 1)
            if problem is None:
                print(f"done in {seconds:.0f} s: {job.name}", flush=True)
            else:
                self._failed.add(job.name)
                print(f"FAILED ({problem}): {job.name}; {job.run / _LOG} ends:\n{_end_of(job.run / _LOG)}", flush=True)
            self._pack()

    def _kept(self, job: Job, code: int, seconds: float, beside: int) -> str | None:
        """Store the result; what went wrong, if anything did."""
        if code:
            return f"exit code {code}"
        missing = [name for name in job.cell.made if not (job.run / name).exists()]
        if missing:
            return f"made no {', '.join(missing)}"
        identity = job.identities[job.cell.key]
        if job.cell.is_scored:
            words = filled(job.cell, job.run, job.stored)
            machine = {**machine_of(self.commit), "seconds": round(seconds, 1), "cells at a time": beside}
            try:
                outcome = collect(job.cell, job.run, (job.cell.program, *words), machine, identity)
            except (OSError, LookupError, ValueError, StopIteration) as error:
                return f"its result cannot be read: {error!r}"
            outcome.save(job.stored)
            keep_configuration(job.run, job.stored, job.cell.key)
        (job.run / _DONE).write_text(json.dumps({"identity": identity, "seconds": seconds}) + "\n")
        return None

    def _pack(self) -> None:
        if self.pack is None:
            return
        draft = self.pack.with_suffix(".partial")
        with tarfile.open(draft, "w:gz") as archive:
            for suite, settings in self.suites.values():
                folder = self.stored / suite.name
                for path in sorted(folder.glob("*.*")):
                    archive.add(path, f"stored/{suite.name}/{path.name}")
                for path in small_files(settings.work / suite.name):
                    archive.add(path, f"runs/{suite.name}/{path.relative_to(settings.work / suite.name)}")
        draft.replace(self.pack)


def small_files(folder: Path, most: int = 300_000) -> Iterator[Path]:
    """Logs, reports of builds and metrics: what helps to understand a run."""
    for pattern in ("*/log.txt", "**/metrics.csv", "**/report.json", "*/pairs.jsonl", "*/done.json"):
        yield from (path for path in sorted(folder.glob(pattern)) if path.stat().st_size < most)


def filled(cell: Cell, run: Path, stored: Path) -> list[str]:
    """The cell's words with its folder and its number of steps.

    Args:
        cell: what is to run.
        run: its folder.
        stored: folder of the results that numbers of steps come from.
    """
    words = (word.replace("{run}", str(run)) for word in cell.words)
    return [_STEPS.sub(lambda match: str(_steps(*match.groups(), stored)), word) for word in words]


def _steps(of: str, own: str, stored: Path) -> int:
    """Steps at which a training has spent another one's FLOPs, the reference's included."""
    results = load(stored)
    spent, mine = (results[key].costs for key in (of, own))
    each = (mine["flops"] + mine["reference_flops"]) / mine["steps"]
    return max(1, round((spent["flops"] + spent["reference_flops"]) / each))


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


def _processes(start: str) -> Any:
    """A way to make processes that have imported the libraries and have not touched a GPU."""
    os.environ.update({"PYTORCH_NVML_BASED_CUDA_CHECK": "1", "TOKENIZERS_PARALLELISM": "false"})
    for name, value in {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}.items():
        os.environ.setdefault(name, value)
    context = multiprocessing.get_context(start)
    if start == "forkserver":
        context.set_forkserver_preload(["results.running", *_LIBRARIES])
    return context


def _end(running: Mapping[BaseProcess, Any]) -> None:
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    for process in running:
        process.join(10)


def _end_of(path: Path, size: int = 1500) -> str:
    return path.read_text(errors="replace")[-size:] if path.exists() else ""
