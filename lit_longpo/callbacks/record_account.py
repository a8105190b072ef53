"""Logs at the end of every run what became of every record that was read, and checks that the counts add up."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

from lightning.pytorch import Callback, LightningModule, Trainer

from lit_longpo.checkpoints import rows_so_far
from lit_longpo.errors import LostRecordsError

log = logging.getLogger(__name__)


@runtime_checkable
class KeepsAccount(Protocol):
    """A data module that knows where its training records go."""

    def planned(self, epoch: int, start: int, end: int) -> Iterable[str] | None:
        """Names of the examples in this rank's rows from `start` to `end` of an epoch; `None` if nobody knows."""

    def account(self, rows: Mapping[int, int]) -> str | None:
        """What became of all training records, in a line, after each rank's first `rows[epoch]` rows of epochs."""


class RecordAccount(Callback):
    """Compares the examples that were trained on with those that were to be, and says where all records went.

    Every epoch's examples are compared on every rank, those of a resumed epoch from where it went on: by their number
    and the sum of their names' hashes, so nothing is kept. The command line adds it to every `fit`; data modules that
    keep no account are left alone.

    Raises:
        LostRecordsError: a record was lost or doubled.
    """

    def __init__(self) -> None:
        self._rows = dict[int, int]()  # of every epoch that this run has seen, where it has come to
        self._start = self._count = self._sum = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Another `fit` begins."""
        self._rows.clear()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the row's examples.

        Raises:
            LostRecordsError: the row is not the next one.
        """
        epoch = trainer.current_epoch
        if epoch not in self._rows:
            self._rows[epoch] = self._start = batch_idx
            self._count = self._sum = 0
        if batch_idx != self._rows[epoch]:
            raise LostRecordsError(f"row {batch_idx} of epoch {epoch} came after row {self._rows[epoch] - 1}")
        self._rows[epoch] += 1
        names = batch.policy.examples
        self._count, self._sum = self._count + len(names), self._sum + sum(map(hash, names))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the epoch's examples with those that were planned.

        Raises:
            LostRecordsError: they are others.
        """
        data, epoch = _data_of(trainer), trainer.current_epoch
        if data is None or epoch not in self._rows:
            return
        names = data.planned(epoch, self._start, self._rows[epoch])
        if names is None:
            return
        count = total = 0
        for name in names:
            count, total = count + 1, total + hash(name)
        if (count, total) != (self._count, self._sum):
            raise LostRecordsError(
                f"records are lost or doubled: rows {self._start} to {self._rows[epoch]} of epoch {epoch} were to hold "
                f"{count} examples and held {self._count}, or others; please report this"
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the account."""
        data = _data_of(trainer)
        if data is None or not trainer.is_global_zero:
            return
        whole, epoch = int(trainer.num_training_batches), trainer.current_epoch
        rows = dict.fromkeys(range(min(self._rows, default=epoch)), whole) | self._rows
        if not self._rows:  # the training was over when this run went on with it
            rows[epoch] = max(0, rows_so_far(trainer) - epoch * whole)
        if line := data.account(rows):
            log.info(line)


def _data_of(trainer: Trainer) -> KeepsAccount | None:
    data = getattr(trainer, "datamodule", None)
    return data if isinstance(data, KeepsAccount) else None
