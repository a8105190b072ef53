"""An epoch whose last row was trained on, when a run goes on behind it: it ends, and the next one is whole.

Lightning has no public way to say so; `loop_parts` looks whether the parts that are set here are still there.
"""

from typing import TYPE_CHECKING, Any

from lightning.pytorch import Trainer
from lightning.pytorch.loops.loop import _Loop

if TYPE_CHECKING:
    from lightning.pytorch.loops.fit_loop import _FitLoop
    from lightning.pytorch.loops.progress import _Progress


def finish_epoch(trainer: Trainer) -> None:
    """Call an epoch whose last row was trained on finished, whatever number of rows this run's epochs have.

    Other numbers of processes, which may go on at the end of an epoch, cut the data into other numbers of rows;
    Lightning 2.6 would take the difference out of every later epoch.

    Args:
        trainer: whose training is about to go on from a checkpoint.
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
    """Begin an epoch behind one that is over as Lightning begins every other: with its rows, from the first one on.

    Where a run goes on behind an epoch, Lightning 2.6 reads on with the loader as the checkpoint left it: it has no
    more rows, or under `limit_train_batches` others of the same epoch. With `max_steps` it goes through that epoch once
    more, without rows, and leaves the next one out. And it leaves the end of an epoch out (what stops early, and
    checkpoints of epochs) where the checkpoint was saved after the last row, before the validation.

    Args:
        trainer: whose training is about to go on from a checkpoint; what was due has been validated.
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
    """Whether the checkpoint was saved where the last row ended, and not where a validation or the epoch did."""
    return loop.epoch_loop.restarted_on_train_batch_end and loop.restarted_mid_epoch


def _counts_of(progress: "_Progress") -> tuple[Any, Any]:
    return progress.total, progress.current
