"""Ends an epoch whose last row was trained on before a resume, and begins the next one whole.

Lightning's progress counters have no public setters, so its private ones are set here; `loop_parts` checks at the start
that they are still there.
"""

from typing import TYPE_CHECKING, Any

from lightning.pytorch import Trainer
from lightning.pytorch.loops.loop import _Loop

if TYPE_CHECKING:
    from lightning.pytorch.loops.fit_loop import _FitLoop
    from lightning.pytorch.loops.progress import _Progress


def finish_epoch(trainer: Trainer) -> None:
    """Mark an epoch as finished if its last row was trained on, even if this run's epochs have other numbers of rows.

    A run may resume at the end of an epoch with another number of processes, which cuts the data into another number of
    rows. Lightning 2.6 would then drop the difference from every later epoch.
    """
    loop, rows = trainer.fit_loop, trainer.num_training_batches
    progress = loop.epoch_loop.batch_progress
    if not (progress.is_last_batch and progress.current.ready):
        return
    if isinstance(rows, int):
        for count in ("ready", "started", "processed", "completed"):
            setattr(progress.current, count, rows)
    if _stands_before_its_end(loop):  # Lightning has called it ended, and asked nobody
        for counts in _counts_of(loop.epoch_progress):
            counts.processed, counts.completed = counts.processed - 1, counts.completed - 1


def begin_next_epoch(trainer: Trainer) -> None:
    """After a resume at the end of an epoch, begin the next one with its first row.

    There Lightning 2.6 goes wrong in three ways. It reads on from the loader as the checkpoint left it, which has no
    rows left (or, under `limit_train_batches`, further rows of the same epoch). With `max_steps` it passes through the
    old epoch once more without rows, and skips the next one. And if the checkpoint was saved after the last row and
    before the validation, it skips the hooks of the epoch's end (early stopping, checkpoints of epochs).

    What was due has been validated by then.
    """
    loop = trainer.fit_loop
    progress, epochs = loop.epoch_loop.batch_progress, _counts_of(loop.epoch_progress)[1]
    if not (progress.is_last_batch and progress.current.ready):
        return
    if _stands_before_its_end(loop):
        loop.on_advance_end()
    if epochs.processed == epochs.started:
        for counts in (*_counts_of(loop.epoch_progress), *_counts_of(progress)):
            counts.completed = counts.processed
        _Loop.restarting.fset(loop, False)  # type: ignore[attr-defined]  # its own setter does not with `max_steps`
        loop._resuming_from_checkpoint = False
        for each in (loop, loop.epoch_loop, loop.epoch_loop.val_loop):
            each.reset_restart_stage()


def _stands_before_its_end(loop: "_FitLoop") -> bool:
    """Whether the checkpoint was saved after the epoch's last row, and before its validation or its end."""
    return loop.epoch_loop.restarted_on_train_batch_end and loop.restarted_mid_epoch


def _counts_of(progress: "_Progress") -> tuple[Any, Any]:
    return progress.total, progress.current
