"""Where a run stands, as its checkpoint says it."""

import copy
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.loops.loop import _Loop
from lightning.pytorch.loops.progress import _Progress

_DUE = "validation_due"


def reopen_epoch(checkpoint: dict[str, Any]) -> None:
    """Say that an epoch which `max_steps` ended before its last row goes on.

    Lightning 2.6 calls it processed. A run that is continued with more steps would then leave the other rows out, and
    with `max_epochs` 1 train nothing.

    Args:
        checkpoint: what Lightning is about to save; changed in place.
    """
    loop = checkpoint.get("loops", {}).get("fit_loop")
    if loop is None or loop["epoch_loop.batch_progress"]["is_last_batch"]:
        return
    epochs = loop["epoch_progress"]
    ended = ["processed"]
    if epochs["current"]["completed"] == epochs["current"]["processed"]:  # saved when the training was over
        ended.append("completed")
    if epochs["current"]["processed"] == epochs["current"]["started"]:
        for counts in epochs.values():
            counts.update({name: counts[name] - 1 for name in ended})


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


def _stands_before_its_end(loop: _FitLoop) -> bool:
    """Whether the checkpoint was saved where the last row ended, and not where a validation or the epoch did."""
    return loop.epoch_loop.restarted_on_train_batch_end and loop.restarted_mid_epoch


def _counts_of(progress: _Progress) -> tuple[Any, Any]:
    return progress.total, progress.current


def note_validation(checkpoint: dict[str, Any], trainer: Trainer, validated: int | None) -> None:
    """Say whether a validation follows the last row, and has not been done.

    Args:
        checkpoint: what Lightning is about to save; changed in place.
        trainer: in the middle of `fit`, or after it.
        validated: the row, as `rows_so_far` counts, after which the last validation was done.
    """
    loop = trainer.fit_loop
    rows = rows_so_far(trainer)
    checkpoint[_DUE] = bool(
        rows and rows != validated and loop._data_fetcher and loop.epoch_loop._should_check_val_fx(loop._data_fetcher)
    )


def log_from(trainer: Trainer, step: int) -> None:
    """Say under which step the next values are logged: the steps before them, as in a run that was not stopped.

    Lightning 2.6 counts them apart, and guesses when it goes on: it is one too far where a checkpoint was saved behind
    a step's end, as the last one of a training and that of a stopped one are.

    Args:
        trainer: whose training is about to go on.
        step: from 0.
    """
    trainer.fit_loop.epoch_loop._batches_that_stepped = step


def rows_so_far(trainer: Trainer) -> int:
    """Rows that this rank was trained on in all epochs."""
    return trainer.fit_loop.epoch_loop.batch_progress.total.ready


def validation_due(checkpoint: dict[str, Any]) -> bool:
    """Whether a run that goes on has to validate first; not said by checkpoints of before."""
    return bool(checkpoint.get(_DUE))


def validated_rows(checkpoint: dict[str, Any]) -> int | None:
    """The rows of a checkpoint after which no validation is due any more; `None` if one is."""
    loop = checkpoint.get("loops", {}).get("fit_loop")
    if loop is None or validation_due(checkpoint):
        return None
    return int(loop["epoch_loop.batch_progress"]["total"]["ready"])


def validate_now(trainer: Trainer) -> None:
    """The validation that a run stopped before; Lightning 2.6 takes it for done when it goes on.

    Args:
        trainer: whose training is about to go on.
    """
    loop, logs = trainer.fit_loop.epoch_loop.val_loop, trainer._logger_connector
    # With `_has_run` left true, a run that goes on from the end of an epoch would have epochs without rows, for ever.
    before = copy.deepcopy((loop.batch_progress, loop._restarting, loop._has_run))
    first = logs._first_loop_iter
    loop.restarting, trainer.validating = False, True
    loop.run()
    trainer.training = True
    loop.batch_progress, loop._restarting, loop._has_run = before
    logs._first_loop_iter = first
