"""Runs the cells of suites: several at a time, what is finished is skipped, what was killed is started anew."""

import json
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from results.cells import Cell, Settings, Suite
from results.outcomes import STORED, collect, keep_configuration, load
from results.packing import Pack, has_adapters, rounded
from results.processes import end, end_of, machine_of, processes, work

_BEGUN, _DONE, _LOG = "begun.json", "done.json", "log.txt"
_STEPS = re.compile(r"\{steps (\S+) (\S+)\}")


@dataclass
class Job:
    """A cell of a suite and where it stands.

    Args:
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

        What was put into the folder by hand says nothing about its command. What others need of it must be there: of a
        run that goes on elsewhere not everything has travelled.
        """
        run = self.folder / cell.key
        here = [run / _DONE] if all((run / name).exists() for name in cell.made) else []
        places = [*here, *([self.stored / f"{cell.key}.json"] if cell.is_scored else [])]
        found = (json.loads(path.read_text()).get("identity") for path in places if path.exists())
        return any(identity in (None, self.identities[cell.key]) for identity in found)

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.is_finished(self.cell)

    @property
    def goes_on(self) -> bool:
        """Whether a killed run left answers to the same questions by the same command: `evaluate` goes on from them."""
        path = self.run / _BEGUN
        known = path.exists() and json.loads(path.read_text())["identity"] == self.identities[self.cell.key]
        return known and self.cell.is_evaluation and not (self.run / _DONE).exists()


@dataclass
class Runner:
    """Starts cells, a process each, until all are done or the time is up.

    Args:
        suites: what to run, each for its settings.
        jobs: processes on the accelerator (or on the cores, where that is "cpu") at a time.
        cpu_jobs: of cells that want no accelerator, beside them.
        evaluations: of the processes on the accelerator, those that only ask. They share it by time slices with the
            trainings: a dozen of each at once, and none comes to its end.
        minutes: after which running cells are ended; `None` means no limit.
        patterns: of keys.
        start: how processes are made: "forkserver" imports the libraries once, "spawn" in each.
        pack: what results and adapters are packed into after every cell.
        stored: folder of the results.
        commit: of the code, where it lies without its history.
    """

    suites: Mapping[str, tuple[Suite, Settings]]
    jobs: int = 1
    cpu_jobs: int = 0
    evaluations: int = 2
    minutes: float | None = None
    patterns: Sequence[str] = ()
    start: str = "forkserver"
    pack: Pack | None = None
    stored: Path = STORED
    commit: str | None = None
    _failed: set[str] = field(default_factory=set)

    def run(self) -> bool:
        """Run; whether every cell has ended well."""
        began = time.monotonic()
        waiting = self._jobs()
        print(f"{len(waiting)} cells to run", flush=True)
        running = dict[BaseProcess, tuple[Job, float]]()
        context = processes(self.start)
        while waiting or running:
            if self.minutes is not None and time.monotonic() - began > 60 * self.minutes:
                print(f"time is up: {len(running)} cells ended, {len(waiting)} not begun", flush=True)
                end(running)
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
            any_job = self._job(suite, settings)
            left = suite.cells(settings, self.patterns, any_job.is_finished)
            jobs += [replace(any_job, cell=cell) for cell in left]
        return jobs

    def _job(self, suite: Suite, settings: Settings) -> Job:
        """Of no cell yet."""
        folder, stored = settings.work / suite.name, self.stored / suite.name
        return Job(suite, Cell("", ()), folder, stored, suite.identities(settings))

    def _begin(self, waiting: list[Job], running: Mapping[BaseProcess, tuple[Job, float]], context: Any) -> bool:
        """Start the next cells that may start; whether there was one."""
        begun = False
        for job in list(waiting):
            if any(f"{job.suite.name}/{key}" in self._failed for key in job.cell.after):
                print(f"left out: {job.name}, what it comes after has failed", flush=True)
                self._failed.add(job.name)
                waiting.remove(job)
            elif self._has_room(job.cell, running) and not self._pending(job, waiting, running):
                waiting.remove(job)
                process = self._started(job, context)
                running[process] = (job, time.monotonic())  # type: ignore[index]
                begun = True
        return begun

    def _has_room(self, cell: Cell, running: Mapping[BaseProcess, tuple[Job, float]]) -> bool:
        beside = [other.cell for other, _ in running.values() if other.cell.device == cell.device]
        if cell.is_evaluation and sum(other.is_evaluation for other in beside) >= self.evaluations:
            return False
        return len(beside) < (self.cpu_jobs if cell.device == "cpu" else self.jobs)

    def _pending(self, job: Job, waiting: Sequence[Job], running: Mapping[BaseProcess, tuple[Job, float]]) -> bool:
        """Whether something that it comes after is not finished."""
        unfinished = {other.name for other in (*waiting, *(other for other, _ in running.values()))}
        return any(f"{job.suite.name}/{key}" in unfinished for key in job.cell.after)

    def _started(self, job: Job, context: Any) -> BaseProcess:
        if job.run.exists() and not job.goes_on:
            shutil.rmtree(job.run)  # killed before its end
        job.run.mkdir(parents=True, exist_ok=True)
        (job.run / _BEGUN).write_text(json.dumps({"identity": job.identities[job.cell.key]}) + "\n")
        words = filled(job.cell, job.run, job.stored)
        process = context.Process(
            target=work, args=(job.cell.program, words, str(job.run / _LOG), self._uses_accelerator(job))
        )
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
                print(f"FAILED ({problem}): {job.name}; {job.run / _LOG} ends:\n{end_of(job.run / _LOG)}", flush=True)
            self._pack()

    def _kept(self, job: Job, code: int, seconds: float, beside: int) -> str | None:
        """Store the result; what went wrong, if anything did."""
        if code:
            return f"exit code {code}"
        missing = [name for name in job.cell.made if not (job.run / name).exists()]
        if missing:
            return f"made no {', '.join(missing)}"
        identity = job.identities[job.cell.key]
        rounded(job.run)
        machine = {**self._machine(job), "seconds": round(seconds, 1), "cells at a time": beside}
        if job.cell.is_scored:
            words = filled(job.cell, job.run, job.stored)
            try:
                outcome = collect(job.cell, job.run, (job.cell.program, *words), machine, identity)
            except (OSError, LookupError, ValueError, StopIteration) as error:
                return f"its result cannot be read: {error!r}"
            outcome.save(job.stored)
            keep_configuration(job.cell, job.run, job.stored)
        done = {"identity": identity, "seconds": seconds, "machine": machine}
        (job.run / _DONE).write_text(json.dumps(done) + "\n")
        return None

    def _machine(self, job: Job) -> dict[str, Any]:
        """Where a cell ran, and where the training did that it asks."""
        here = machine_of(self.commit)
        if not self._uses_accelerator(job):
            here = {**here, "accelerator": None}
        path = job.folder / job.cell.trained / _DONE
        return {**here, "trained on": json.loads(path.read_text()).get("machine")} if job.cell.trained else here

    def _uses_accelerator(self, job: Job) -> bool:
        return self.suites[job.suite.name][1].accelerator == "gpu" and job.cell.device != "cpu"

    def _pack(self) -> None:
        if self.pack is None:
            return
        folders = [(settings.work / suite.name, self.stored / suite.name) for suite, settings in self.suites.values()]
        self.pack.write(
            folders, [run for suite, settings in self.suites.values() for run in self._wanted(suite, settings)]
        )

    def _wanted(self, suite: Suite, settings: Settings) -> list[Path]:
        """Runs that have left adapters on which a result waits, in order of worth."""
        job = self._job(suite, settings)

        def is_kept(cell: Cell) -> bool:
            return cell.is_scored and job.is_finished(cell)

        waiting = [cell.key for cell in suite.make(settings) if cell.is_scored and not is_kept(cell)]
        needed = suite.cells(settings, waiting, is_kept) if waiting else []
        left = (replace(job, cell=cell) for cell in needed if job.is_finished(cell))
        return [item.run for item in left if has_adapters(item.cell, item.run)]


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
