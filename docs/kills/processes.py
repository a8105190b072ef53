"""A command of ours in forked processes, killed as a group at a moment."""

import contextlib
import gc
import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lightning.fabric.plugins.environments.lightning import find_free_network_port

from kills.watching import Moment, Watch

_ROOT = Path(__file__).resolve().parents[2]
_SECONDS = 900  # until what hangs is killed
_ALONE = 60  # that a process gets after another of its group has ended badly


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Args:
        statuses: of its processes; minus the signal that killed one.
        killed: whether the moment came.
        hung: whether it had to be killed because it did not end.
    """

    statuses: tuple[int, ...]
    killed: bool
    hung: bool


def run(
    words: Sequence[str], num_ranks: int, folder: Path, logs: Path, moment: Moment | None = None, *, fresh: bool = False
) -> Ended:
    """`python -m lit_longpo WORDS` in so many processes, forked from this one, which has imported everything.

    Args:
        words: of the command.
        num_ranks: processes.
        folder: whose files are watched.
        logs: folder for what each process prints and does.
        moment: when all of them are killed.
        fresh: let each import everything itself.
    """
    logs.mkdir(parents=True, exist_ok=True)
    port, (reading, writing) = find_free_network_port(), os.pipe()
    pids = list[int]()
    for rank in range(num_ranks):
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            where = _as_torchrun(rank, num_ranks, port) if num_ranks > 1 else {}
            mine = moment if moment is not None and moment.rank == rank else None
            trace = logs / f"trace-{rank}.txt"
            _child(words, where, pids, logs / f"output-{rank}.txt", (trace, folder, mine, writing), fresh=fresh)
        os.setpgid(pid, pids[0] if pids else pid)
        pids.append(pid)
    os.close(writing)
    waiting = _Waiting(pids, reading, moment)
    try:
        return waiting.wait()
    finally:  # an interrupt must not leave them behind
        waiting.kill()
        os.close(reading)


class _Waiting:
    """For processes to end, and for the moment to come."""

    def __init__(self, pids: Sequence[int], reading: int, moment: Moment | None) -> None:
        self.pids, self.reading, self.moment = pids, reading, moment
        self.statuses = dict[int, int]()
        self.killed = self.hung = False

    def wait(self) -> Ended:
        deadline = time.monotonic() + _SECONDS
        while len(self.statuses) < len(self.pids):
            if not self.killed and select.select([self.reading], [], [], 0.05)[0] and os.read(self.reading, 1):
                self._kill_soon()
            self._reap()
            if any(self.statuses.values()):
                deadline = min(deadline, time.monotonic() + _ALONE)
            if time.monotonic() > deadline:
                self.hung = not self.killed
                self.kill()
            time.sleep(0.005)
        return Ended(tuple(self.statuses[pid] for pid in self.pids), self.killed, self.hung)

    def _kill_soon(self) -> None:
        """The event is here; one without a share has killed itself."""
        assert self.moment is not None
        if self.moment.share:
            time.sleep(self.moment.seconds)
            self._reap()
            if len(self.statuses) == len(self.pids):
                return  # it was over before
            self.kill()
        self.killed = True

    def kill(self) -> None:
        """All that are left."""
        if len(self.statuses) < len(self.pids):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pids[0], signal.SIGKILL)

    def _reap(self) -> None:
        for pid in self.pids:
            if pid not in self.statuses:
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    self.statuses[pid] = os.waitstatus_to_exitcode(status)


def _child(
    words: Sequence[str],
    environment: dict[str, str],
    before: Sequence[int],
    output: Path,
    watched: tuple[Path, Path, Moment | None, int],
    *,
    fresh: bool,
) -> None:
    """Never returns."""
    status = 1
    try:
        os.setpgid(0, before[0] if before else 0)
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number in (1, 2):
            os.dup2(file, number)
        os.chdir(_ROOT)
        os.environ |= environment
        if fresh:
            _start_anew(words, *watched)
        gc.freeze()
        Watch(*watched).begin()
        from lit_longpo.__main__ import main

        sys.argv = ["python -m lit_longpo", *words]
        main(words)
        status = 0
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, flush=True)
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:  # the exit status tells the parent, the log has the rest
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _start_anew(words: Sequence[str], trace: Path, folder: Path, moment: Moment | None, tell: int) -> None:
    """Become `kills.fresh`; never returns."""
    os.set_inheritable(tell, True)
    os.environ["PYTHONPATH"] = os.pathsep.join(map(str, (_ROOT / "docs", _ROOT)))
    chosen = json.dumps(asdict(moment) if moment else None)
    given = (str(trace), str(folder), chosen, str(tell))
    os.execv(sys.executable, [sys.executable, "-m", "kills.fresh", *given, *words])


def _as_torchrun(rank: int, num_ranks: int, port: int) -> dict[str, str]:
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0}
    sizes = {"WORLD_SIZE": num_ranks, "LOCAL_WORLD_SIZE": num_ranks}
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "kills"}
    return {name: str(value) for name, value in (ranks | sizes | where).items()}
