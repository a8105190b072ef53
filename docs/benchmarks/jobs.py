"""Work in forked processes, each with a time limit and a log: none can break, hang or poison another's GPU context.

A fork starts with everything imported. It cannot use a GPU that its parent has touched, so the parent never does;
where that fails all the same, processes are started anew (`start="spawn"`).
"""

import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_PAUSE = 0.1
_GRACE = 6.0  # from the interrupt, after which pytest still reports, to the kill


@dataclass(frozen=True)
class Job:
    """A function to call in a process of its own.

    Args:
        function: gives what can be written as JSON.
        limit: seconds.
        log: file name, shared by those that name the same.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    limit: float = 60.0
    log: str = "measurements.log"


@dataclass
class Jobs:
    """Runs jobs, keeps their results and writes them after each.

    Args:
        deadline: on `time.monotonic`'s clock; nothing runs longer.
    """

    folder: Path
    deadline: float
    start: str = "fork"
    results: dict[str, Any] = field(default_factory=dict)

    def together(self, jobs: list[Job], width: int = 1, until: float | None = None) -> None:
        """Up to `width` at a time, in order; `until` is a deadline for these."""
        end = min(self.deadline, until or self.deadline)
        waiting, running = list(jobs), list[_Running]()
        while waiting or running:
            while waiting and len(running) < width:
                job = waiting.pop(0)
                if time.monotonic() < end - _GRACE:
                    running.append(_Running(job, self.folder, self.start, end))
                else:
                    self._keep(job, {"status": "left out: no time"})
            time.sleep(_PAUSE)
            for one in [one for one in running if one.ended()]:
                running.remove(one)
                self._keep(one.job, one.result())

    def _keep(self, job: Job, result: dict[str, Any]) -> None:
        self.results[job.name] = result
        (self.folder / "device.json").write_text(json.dumps(self.results, indent=2, default=str) + "\n")
        print(f"{job.name}: {_short(result)}", flush=True)


class _Running:
    """A process with a session of its own, so that all that it starts ends with it."""

    def __init__(self, job: Job, folder: Path, start: str, end: float) -> None:
        self.job, self.began = job, time.monotonic()
        self.end = min(self.began + job.limit, end)
        self.out = Path(tempfile.mkdtemp()) / "result.json"  # results and logs alone are in the folder
        self.late = False
        arguments = (job, folder / job.log, self.out)
        context: Any = multiprocessing.get_context(start)
        self.process = context.Process(target=_child, args=arguments)
        self.process.start()

    def ended(self) -> bool:
        """Whether it has; told to when its time is over, and then made to."""
        if self.process.is_alive() and time.monotonic() > self.end:
            self._signal(signal.SIGKILL if self.late and time.monotonic() > self.end + _GRACE else signal.SIGINT)
        return not self.process.is_alive()

    def _signal(self, number: signal.Signals) -> None:
        if self.late and number == signal.SIGINT:
            return
        self.late = True
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            self.process.kill()

    def result(self) -> dict[str, Any]:
        """Status, seconds, and what the function gave."""
        self.process.join()
        made = json.loads(self.out.read_text()) if self.out.exists() else {}
        self.out.unlink(missing_ok=True)
        failed = "error" in made or self.process.exitcode != 0
        status = "out of time" if self.late else "failed" if failed else "ok"
        return {"status": status, "exit": self.process.exitcode, "took": time.monotonic() - self.began, **made}


def _child(job: Job, log: Path, out: Path) -> None:
    os.setsid()
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(target, 1)
    os.dup2(target, 2)
    print(f"\n===== {job.name}", flush=True)
    try:
        made = job.function(*job.arguments)
    except BaseException as error:  # the parent says it; the log has the traceback
        traceback.print_exc()
        made = {"error": f"{type(error).__name__}: {str(error)[:600]}"}
    out.write_text(json.dumps(made, default=str))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if "error" in made else 0)  # nobody waits for threads of libraries


def run_command(command: list[str], root: str, environment: dict[str, str]) -> None:
    """Become the command."""
    os.chdir(root)
    os.execvpe(command[0], command, {**os.environ, **environment})


def _short(result: dict[str, Any]) -> str:
    text = json.dumps(result, default=lambda value: f"{value}")
    return text if len(text) <= 700 else f"{text[:700]} ..."
