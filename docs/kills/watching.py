"""Inside a process that may be killed: which phase it is in, and a number for all that it does to its files.

A moment is an event, not a second, so that it means the same on a slow machine: before a file is opened for writing,
renamed or removed, or where a phase begins or ends; or, for what lies between, a share of the time to the next event.
"""

import functools
import importlib
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START, BETWEEN = "start-up", "in between"
_WRAPPED = (  # phase, module, what runs in it; what runs inside of another goes first
    ("reference pass", "lit_longpo.policy.reference.reference", "fill_cache"),
    ("training", "lightning.pytorch.loops.training_epoch_loop", "_TrainingEpochLoop.advance"),
    ("validation", "lightning.pytorch.loops.evaluation_loop", "_EvaluationLoop.run"),
    ("checkpoint", "lit_longpo.checkpoints.trainer", "ResumableTrainer.save_checkpoint"),
    ("export", "lit_longpo.callbacks.save_pretrained", "SavePretrained.on_train_end"),
    ("export", "lit_longpo.export.command", "save_policy"),
    ("writing", "data_modules.builders.build", "write_pairs"),
    ("answering", "data_modules.builders.build", "finish"),
    ("writing", "data_modules.builders.report", "BuildReport.write"),
    ("answering", "evaluation.running.runner", "Runner.run"),
    ("writing", "evaluation.evaluating", "publish"),
)
_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree")
_LOGGED = re.compile(r"events\.out\.tfevents")  # opened for every number that is logged
_OURS = ("lit_longpo", "data_modules", "evaluation")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class Moment:
    """When to kill.

    Args:
        event: number of it, from 0.
        share: of the time from it to the next one that goes by before the kill; 0 is before it happens.
        seconds: that this took in the undisturbed run, times `share`.
        rank: of the process whose events count.
    """

    event: int
    share: float = 0.0
    seconds: float = 0.0
    rank: int = 0


@dataclass(frozen=True)
class Event:
    """Something that a process did.

    Args:
        at: seconds on `time.monotonic`'s clock.
        what: it did, and to which file.
    """

    at: float
    phase: str
    what: str


class Watch:
    """Writes down events, and is killed at one of them; there is no way to stop it.

    Args:
        trace: file of the events.
        folder: whose files are watched.
        moment: when this process's group is killed; `None` for never.
        tell: written to when the event has come and the time begins to run.
    """

    def __init__(self, trace: Path, folder: Path, moment: Moment | None, tell: int) -> None:
        self._trace = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        self._folder, self._moment, self._tell = str(folder), moment, tell
        self._phases, self._number, self._busy = [START], 0, False

    def begin(self, *, libraries: bool = False) -> None:
        """From here on everything counts.

        Args:
            libraries: ours are not imported yet: when they are counts, too, and nothing else is a phase.
        """
        self._libraries = libraries
        for phase, module, name in () if libraries else _WRAPPED:
            _wrap(importlib.import_module(module), name, functools.partial(self._in_phase, phase))
        sys.addaudithook(self._audit)
        self._event("begin")

    def _in_phase(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def watched(*arguments: Any, **named: Any) -> Any:
            if self._phases[0] == START:
                self._phases[0] = BETWEEN
            self._phases.append(phase)
            self._event("enter")
            try:
                return function(*arguments, **named)
            finally:
                self._event("leave")
                self._phases.pop()

        return watched

    def _audit(self, name: str, arguments: tuple[Any, ...]) -> None:
        if self._libraries and name == "import" and str(arguments[0]).startswith(_OURS):
            self._event(f"import {arguments[0]}")
        if self._busy or not (name in _CHANGES or name == "open"):
            return
        path = os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes | os.PathLike) else ""
        if (
            self._folder in path
            and not _LOGGED.search(path)
            and (name != "open" or _is_write(arguments[1], arguments[2]))
        ):
            self._event(f"{name} {path.removeprefix(self._folder).lstrip('/')}")

    def _event(self, what: str) -> None:
        self._busy = True
        os.write(self._trace, f"{time.monotonic()}\t{self._phases[-1]}\t{what}\n".encode())
        if self._moment is not None and self._number == self._moment.event:
            os.write(self._tell, b"!")
            if not self._moment.share:
                os.killpg(0, signal.SIGKILL)
        self._number += 1
        self._busy = False


def _is_write(mode: Any, flags: Any) -> bool:
    return bool(set(mode) & set("wax+")) if isinstance(mode, str) else bool(int(flags or 0) & _WRITES)


def _wrap(holder: Any, name: str, wrapper: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    *parents, last = name.split(".")
    for parent in parents:
        holder = getattr(holder, parent)
    setattr(holder, last, wrapper(getattr(holder, last)))


def events(trace: Path) -> list[Event]:
    """What a process has written down."""
    rows = (line.split("\t") for line in trace.read_text().splitlines())
    return [Event(float(at), phase, what) for at, phase, what in rows]
