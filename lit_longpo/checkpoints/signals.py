"""SIGTERM and Ctrl-C: a training ends the step that it is in, writes a checkpoint, and says by its status why it ended.

Lightning 2.6 exits with status 0 and without a checkpoint, and broadcasts from inside its handler, which comes between
the collective calls of a step. At the signal by which SLURM is to begin a job again (SIGUSR1) it writes a checkpoint
there, in which the row that is being trained on counts as trained: such a run stops like the others, and is requeued.
"""

import logging
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector
from lightning.pytorch.utilities.exceptions import SIGTERMException

from lit_longpo.checkpoints.progress import is_over
from lit_longpo.errors import DIED, error_text

log = logging.getLogger(__name__)

_ASKING = (signal.SIGTERM, signal.SIGINT)


class StopSignals(_SignalConnector):
    """Lightning's signal connector, but every process finishes the same step before it stops.

    The first signal asks, the second one ends the process at once; so does the first before there is anything to
    write, for example in the reference pass, which keeps what it has.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._asked: int | None = None
        self._agreed = False
        self._process = os.getpid()
        super().__init__(trainer)

    @property
    def received_sigterm(self) -> bool:
        """Whether Lightning's loops are to end here: every process has been asked, and a resume would be exact."""
        all_know = self._agreed or self.trainer.world_size == 1
        return self._asked is not None and all_know and self._between_steps

    @received_sigterm.setter
    def received_sigterm(self, value: bool) -> None:
        if not value:
            self._asked, self._agreed = None, False

    @property
    def status(self) -> int:
        """The status to exit with."""
        return DIED + (self._asked or signal.SIGTERM)

    @property
    def requeues(self) -> bool:
        """Whether SLURM is to begin this job again."""
        return self._asked is not None and self._asked not in _ASKING

    def register_signal_handlers(self) -> None:
        """Lightning's, and ours over them until the run is over."""
        super().register_signal_handlers()
        self.listen()
        self.trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = self._agree  # type: ignore[method-assign]
        loop = self.trainer.fit_loop
        loop.on_advance_end = partial(self._end_epoch, type(loop).on_advance_end.__get__(loop))  # type: ignore[method-assign]

    def listen(self) -> None:
        """Handle signals from now on; Lightning would only start after the reference pass."""
        self._process = os.getpid()
        for signum in _ASKING:
            self._register_signal(signum, self._ask)

    @property
    def _is_own(self) -> bool:
        """Whether this is the process that listens, not one of its data loaders, which have its handlers by fork."""
        return os.getpid() == self._process

    @property
    def _between_steps(self) -> bool:
        """Whether no gradient is waiting, and the epoch neither begins nor ends here (see `_end_epoch`)."""
        loop = self.trainer.fit_loop.epoch_loop
        rows = loop.batch_progress
        return bool(rows.current.ready) and not rows.is_last_batch and not loop._should_accumulate()

    def _ask(self, signum: int, frame: FrameType | None) -> None:
        if not self._is_own:  # schedulers and terminals signal these, too; the run ends them
            return
        begun = self.trainer._has_begun()  # type: ignore[attr-defined]
        if not begun:
            _say(signum, "stopped before the first step; the same command begins again")
        if self._asked is not None or not begun:
            self._end_others(signum)
            raise SystemExit(DIED + signum)
        self._asked = signum
        _say(signum, "stopping after this step, with a checkpoint; once more stops at once")

    def _slurm_sigusr_handler_fn(self, signum: int, frame: FrameType | None) -> None:
        if self._is_own and self.trainer.is_global_zero and not self.trainer._has_begun():  # type: ignore[attr-defined]
            requeue_job()
        self._ask(signum, frame)

    def _end_others(self, signum: int) -> None:
        """End the processes that this one has started; not at the first signal, which they may have received too."""
        if signum == signal.SIGTERM and self.trainer.strategy.launcher is not None:
            self.trainer.strategy.launcher.kill(signum)

    def _end_epoch(self, end: Callable[[], None]) -> None:
        """Run Lightning's end of an epoch, then stop if asked to: an epoch of one step has no other place to stop."""
        end()
        alone = self.trainer.world_size == 1
        if (alone and self._asked is None) or is_over(self.trainer):
            return
        if alone:
            raise SIGTERMException(self.status)
        self._stop_if_asked()

    def _agree(self) -> None:
        """Before a row, on all processes: stop if one of them was asked to."""
        if self._between_steps:
            self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        """Stop on all processes if one of them was asked to; a collective call."""
        asked = torch.tensor([self._asked or 0], device=self.trainer.strategy.root_device)
        torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX)
        if asked.item():
            self._asked, self._agreed = int(asked.item()), True
            raise SIGTERMException(self.status)


def requeue_job() -> None:
    """Have SLURM begin this job again; on the first process, when all is written."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]
    command = ["scontrol", "requeue", job]
    try:
        subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        log.warning("SLURM does not begin this job again (%s); type: %s", error_text(error), " ".join(command))


def _say(signum: int, what: str) -> None:
    """Write to standard error directly: a signal may come in the middle of a logging call."""
    os.write(2, f"{signal.Signals(signum).name}: {what}\n".encode())


@contextmanager
def ended_by_status(trainer: Any) -> Iterator[None]:
    """Exit as programs do that a signal has ended: 143 after SIGTERM, 130 after Ctrl-C; Lightning says 0 and 1."""
    connector = trainer._signal_connector = StopSignals(trainer)
    before = {signum: signal.getsignal(signum) for signum in _ASKING}
    connector.listen()
    try:
        yield
    except SystemExit as stop:  # that of SIGTERM has its status since it left the loop: callbacks ask for it
        if isinstance(stop.__context__, KeyboardInterrupt):
            stop.code = DIED + signal.SIGINT
        raise
    finally:
        for signum, handler in before.items():
            connector._register_signal(signum, handler)
