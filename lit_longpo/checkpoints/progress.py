"""Reads and corrects what a checkpoint says about a run's progress: rows, epochs, a validation that is due."""

import copy
import logging
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Timer

from lit_longpo.optimization import Taken

log = logging.getLogger(__name__)

_DUE = "validation_due"


def reopen_epoch(checkpoint: dict[str, Any]) -> None:
    """Mark an epoch that `max_steps` ended before its last row as unfinished.

    Lightning 2.6 counts it as processed. A run resumed with more steps would then skip its other rows, and with
    `max_epochs` 1 train nothing.
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


def record_due_validation(checkpoint: dict[str, Any], trainer: Trainer, validated: int | None) -> None:
    """Note in a checkpoint whether the validation after the last row is still to be done.

    `validated` is the row, as `rows_so_far` counts, after which the last one was done.
    """
    rows = rows_so_far(trainer)
    checkpoint[_DUE] = bool(rows and rows != validated and trainer.fit_loop._data_fetcher and _validates_here(trainer))


def _validates_here(trainer: Trainer) -> bool:
    """Whether a validation follows the last row, by the epoch that it is of.

    Lightning goes by the number of epochs that are over (`check_val_every_n_epoch`). A checkpoint of a run that was
    stopped behind an epoch's last row counts that epoch already, so Lightning is asked with the number before it.
    """
    loop = trainer.fit_loop
    counts: Any = loop.epoch_progress.current
    over = counts.completed
    counts.completed = max(0, counts.started - 1)
    try:
        return bool(loop.epoch_loop._should_check_val_fx(loop._data_fetcher))  # type: ignore[arg-type]
    finally:
        counts.completed = over


def log_from(trainer: Trainer, step: int) -> None:
    """Set the step, from 0, under which the next values are logged, as in a run that was not stopped.

    Lightning 2.6 counts these steps separately. After a resume its guess is one too high where the checkpoint was saved
    after the end of a step: when the training ended, or was stopped.
    """
    trainer.fit_loop.epoch_loop._batches_that_stepped = step


def warn_of_nothing_left(trainer: Trainer, *, over: bool) -> None:
    """Explain why a resumed run ends at once; `max_time` includes the time before the checkpoint.

    Args:
        trainer: of the run.
        over: whether the checkpoint is the end of the training (`is_over`).
    """
    timer = next((one for one in getattr(trainer, "callbacks", ()) if isinstance(one, Timer)), None)
    left = None if timer is None else timer.time_remaining()
    if timer is not None and left is not None and left <= 0:
        log.warning(
            "nothing is trained: `trainer.max_time` is the time of the whole training, of which %s went by before the "
            "checkpoint; type a longer one with --trainer.max_time DD:HH:MM:SS",
            timedelta(seconds=round(timer.time_elapsed())),
        )
    elif over:
        done = {"max_steps": trainer.global_step, "max_epochs": trainer.current_epoch}
        reached = {name: count == getattr(trainer, name) for name, count in done.items()}
        names = [name for name, is_reached in reached.items() if is_reached] or ["max_epochs"]
        log.warning(
            "nothing is trained: the checkpoint is the end of this training, at step %d; to go on, type a larger %s",
            *(trainer.global_step, " and ".join(f"--trainer.{name} than {getattr(trainer, name)}" for name in names)),
        )


def is_over(trainer: Trainer) -> bool:
    """Lightning's `fit_loop.done`, without the message that it logs at every call."""
    with patch.object(logging.getLogger("lightning.pytorch.utilities.rank_zero"), "disabled", True):
        return trainer.fit_loop.done


def rows_so_far(trainer: Trainer) -> int:
    """Rows that this rank was trained on in all epochs."""
    return trainer.fit_loop.epoch_loop.batch_progress.total.ready


def taken(checkpoint: dict[str, Any]) -> Taken:
    """The steps, epochs and rows before a checkpoint."""
    loop = checkpoint.get("loops", {}).get("fit_loop")
    if loop is None or "epoch_progress" not in loop:
        return Taken()
    rows, begun = loop["epoch_loop.batch_progress"], loop["epoch_progress"]["current"]["started"]
    over = rows["is_last_batch"] or not begun
    return Taken(checkpoint["global_step"], begun if over else begun - 1, 0 if over else rows["current"]["ready"])


def rows_of_half_a_step(checkpoint: dict[str, Any]) -> int:
    """Rows that a checkpoint counts but whose optimizer step had not ended; their gradients are lost."""
    loop, settings = checkpoint.get("loops", {}).get("fit_loop"), checkpoint.get("run", {}).get("settings", {})
    if loop is None or loop["epoch_loop.batch_progress"]["is_last_batch"]:
        return 0
    rows = loop["epoch_loop.batch_progress"]["current"]["ready"]
    return int(rows % settings.get("trainer.accumulate_grad_batches", 1))


def validation_due(checkpoint: dict[str, Any]) -> bool:
    """Whether a resumed run has to validate first; False for checkpoints of other trainers, which do not say."""
    return bool(checkpoint.get(_DUE))


def validated_rows(checkpoint: dict[str, Any]) -> int | None:
    """The rows of a checkpoint, after which no validation is due any more; `None` if one is due, or without `fit`."""
    loop = checkpoint.get("loops", {}).get("fit_loop")
    if loop is None or validation_due(checkpoint):
        return None
    return int(loop["epoch_loop.batch_progress"]["total"]["ready"])


def validate_now(trainer: Trainer) -> None:
    """Run the validation that a run was stopped before; Lightning 2.6 would take it for done."""
    loop, logs = trainer.fit_loop.epoch_loop.val_loop, trainer._logger_connector
    # With `_has_run` left true, a run that goes on from the end of an epoch would have epochs without rows, for ever.
    before = copy.deepcopy((loop.batch_progress, loop._restarting, loop._has_run))
    first = logs._first_loop_iter
    loop.restarting, trainer.validating = False, True
    loop.run()
    trainer.training = True
    loop.batch_progress, loop._restarting, loop._has_run = before
    logs._first_loop_iter = first
