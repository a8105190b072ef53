"""Makes a ModelCheckpoint that keeps the last weights keep those of the last step, whatever its interval and metric.

ModelCheckpoint offers no public way to save outside of its intervals, so its private methods are called;
`loop_parts` checks at the start that they are still there.
"""

from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import patch

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from lit_longpo.checkpoints.loops import model_checkpoints, unchanged_hooks

COUNTS = ("step", "epoch")  # Lightning's own metrics; by them the last ones are kept, not the best
_EPOCH_END = "on_train_epoch_end"


def keep_last_steps(trainer: Trainer) -> None:
    """Save the last weights where Lightning 2.6 would keep earlier ones.

    It saves at intervals only, so steps after the last interval are in no checkpoint when a training ends. And it
    writes `last.ckpt` only together with another file: if the monitored metric does not improve, `last.ckpt` stays that
    of an earlier step, from which a killed run would resume.
    """
    for callback, name, hook in unchanged_hooks(trainer, ModelCheckpoint, "on_validation_end", _EPOCH_END):
        setattr(callback, name, partial(_and_last, callback, hook, name == _EPOCH_END))


def _and_last(
    callback: Any, hook: Callable[..., None], ends_epoch: bool, trainer: Trainer, module: LightningModule
) -> None:
    hook(trainer, module)
    if callback._should_skip_saving_checkpoint(trainer):  # this step is kept, or nothing is to be
        return
    if ends_epoch and _is_over(trainer):
        if callback.monitor in (None, *COUNTS) and not _is_kept(trainer):
            callback._save_topk_checkpoint(trainer, callback._monitor_candidates(trainer))
    elif not _is_due(callback, trainer, ends_epoch=ends_epoch):
        return
    if callback.save_last:
        _write_last(callback, trainer)


def _write_last(callback: Any, trainer: Trainer) -> None:
    """Write the last weights, or a link if a file holds them; else Lightning would link to another file."""
    as_stated = callback._last_global_step_saved == trainer.global_step
    with patch.object(callback, "save_last", callback.save_last if as_stated else True):
        callback._save_last_checkpoint(trainer, callback._monitor_candidates(trainer))


def _is_due(callback: Any, trainer: Trainer, *, ends_epoch: bool) -> bool:
    """Whether the callback has just decided by its metric whether to keep the weights."""
    here = callback._should_save_on_train_epoch_end(trainer) == ends_epoch
    return here and callback._every_n_epochs >= 1 and (trainer.current_epoch + 1) % callback._every_n_epochs == 0


def _is_kept(trainer: Trainer) -> bool:
    return any(each._last_global_step_saved == trainer.global_step for each in model_checkpoints(trainer))


def _is_over(trainer: Trainer) -> bool:
    """Whether the training ends with this epoch; Lightning's `done` would count the epoch as completed twice."""
    steps = trainer.max_steps != -1 and trainer.global_step >= trainer.max_steps
    epochs = trainer.max_epochs not in (None, -1) and trainer.current_epoch + 1 >= (trainer.max_epochs or 0)
    return steps or epochs or (trainer.should_stop and trainer.fit_loop._can_stop_early)
