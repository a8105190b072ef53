"""Puts off validations, timed checkpoints and timed ends between the rows of one optimizer step until after it.

The gradients of a step's first rows are in no checkpoint. A run that resumed between them would take the step with the
remaining rows alone. Lightning's check for a due validation has no public hook, so `_should_check_val_fx` is replaced.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, Timer

from lit_longpo.checkpoints.loops import unchanged_hooks
from lit_longpo.strategies import ends_step


def keep_steps_whole(trainer: Trainer) -> None:
    """Put off until the step's end what Lightning 2.6 does between its rows.

    After a resume its ModelCheckpoint takes the first row for the end of the step that it has stored already; timed
    checkpoints and `max_time` come wherever the clock says so; and validations, with their checkpoints, count rows.
    """
    loop = trainer.fit_loop.epoch_loop
    loop._should_check_val_fx = _ValidationsBehindSteps(trainer)  # type: ignore[method-assign]
    for callback, name, hook in unchanged_hooks(trainer, (ModelCheckpoint, Timer), "on_train_batch_end"):
        setattr(callback, name, partial(_behind_steps, hook))


class _ValidationsBehindSteps:
    """Whether a validation is due after a row; one that falls between a step's rows is due after its last row."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._put_off: int | None = None  # steps before the one that a validation was due in

    def __call__(self, data_fetcher: Any) -> bool:
        trainer = self._trainer
        loop = trainer.fit_loop.epoch_loop
        due = type(loop)._should_check_val_fx(loop, data_fetcher)
        if ends_step(trainer) or (trainer.should_stop and trainer.fit_loop._can_stop_early):
            return due or (self._put_off is not None and self._put_off == trainer.global_step - 1)
        self._put_off = trainer.global_step if due else self._put_off
        return False


def _behind_steps(hook: Callable[..., None], trainer: Trainer, *arguments: Any, **options: Any) -> None:
    if ends_step(trainer):
        hook(trainer, *arguments, **options)
