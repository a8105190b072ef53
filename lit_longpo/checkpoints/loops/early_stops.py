"""Makes EarlyStopping respect `min_epochs` and `min_steps`, and after a resume the patience of this start."""

from collections.abc import Callable
from functools import partial
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from lit_longpo.checkpoints.loops import unchanged_hooks


def decide_behind_least_length(trainer: Trainer) -> None:
    """Let nobody's patience end a run because it was exhausted before `min_epochs` or `min_steps` were over.

    Lightning 2.6 keeps that decision, and ends the run there although its metric has become better since
    (Lightning#19966); meanwhile it validates wherever rows are counted.
    """
    for callback, name, hook in unchanged_hooks(trainer, EarlyStopping, "on_validation_end", "on_train_epoch_end"):
        setattr(callback, name, partial(_decided, hook))


def keep_patience(trainer: Trainer, checkpoint: dict[str, Any]) -> None:
    """Let EarlyStopping wait as long as this start says: Lightning 2.6 takes what the checkpoint's run was told."""
    states = checkpoint.get("callbacks") or {}
    for callback in getattr(trainer, "callbacks", ()):
        if isinstance(callback, EarlyStopping) and callback.state_key in states:
            states[callback.state_key]["patience"] = callback.patience


def _decided(hook: Callable[..., None], trainer: Trainer, module: LightningModule) -> None:
    before = trainer.should_stop
    hook(trainer, module)
    too_early = trainer.current_epoch + 1 < (trainer.min_epochs or 0) or trainer.global_step < (trainer.min_steps or 0)
    trainer.should_stop = before or (trainer.should_stop and not too_early)
