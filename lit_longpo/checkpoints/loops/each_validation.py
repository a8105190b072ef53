"""Lets EarlyStopping and ModelCheckpoint look at every validation where one follows each row."""

from collections.abc import Callable
from functools import partial
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from lit_longpo.checkpoints.loops import unchanged_hooks


def look_at_each_validation(trainer: Trainer) -> None:
    """Let a metric that is watched count after each row with `val_check_interval: 1`, as with 2 after every second.

    Lightning 2.6 takes the whole number for the share 1.0: both callbacks would only know the last validation of each
    epoch, so a better one before it is not kept, and patience counts epochs.
    """
    for callback, name, hook in unchanged_hooks(trainer, EarlyStopping, "setup"):
        setattr(callback, name, partial(_set_up, callback, hook))
    for callback, name, hook in unchanged_hooks(trainer, ModelCheckpoint, "_should_save_on_train_epoch_end"):
        if callback.monitor is not None and callback._save_on_train_epoch_end is None:  # type: ignore[attr-defined]
            setattr(callback, name, partial(_saves_at_epoch_ends, hook))


def _set_up(callback: Any, hook: Callable[..., None], trainer: Trainer, module: LightningModule, stage: str) -> None:
    if callback._check_on_train_epoch_end is None and _after_each_row(trainer):
        callback._check_on_train_epoch_end = False
    hook(trainer, module, stage)


def _saves_at_epoch_ends(hook: Callable[..., Any], trainer: Trainer) -> bool:
    return bool(hook(trainer)) and not _after_each_row(trainer)


def _after_each_row(trainer: Trainer) -> bool:
    interval = getattr(trainer, "val_check_interval", None)  # Lightning 2.6 has none where it is a time
    return isinstance(interval, int) and interval == 1 and trainer.enable_validation
