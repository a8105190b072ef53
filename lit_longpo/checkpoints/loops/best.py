"""Keeps the best checkpoint of a training the best of all of it, also when it resumes in another folder."""

import logging
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

log = logging.getLogger(__name__)


def remember_best(trainer: Trainer, checkpoint: dict[str, Any]) -> None:
    """Let a ModelCheckpoint count what it has kept before a resume among its best ones, wherever that lies.

    Every start has a folder of its own, and Lightning 2.6 forgets the best ones of another folder: the first weights
    that were kept after a resume were the best then, whatever they were worth. It deletes nothing in that folder.

    Called on every process; the checkpoint is changed in place.
    """
    states = checkpoint.get("callbacks") or {}
    for callback in getattr(trainer, "callbacks", ()):
        if isinstance(callback, ModelCheckpoint) and callback.monitor and callback.state_key in states:
            _move(states[callback.state_key], callback, trainer)


def _move(state: dict[str, Any], callback: ModelCheckpoint, trainer: Trainer) -> None:
    scores = state.get("best_k_models") or {}
    if state.get("dirpath") == callback.dirpath or not scores or not callback.save_top_k:
        return
    # The first process writes them: on another machine's disk they are not, and all have to keep or pass over together.
    there = trainer.strategy.broadcast([path for path in scores if Path(path).exists()])
    if not there:
        if trainer.is_global_zero:
            log.warning(
                "the best checkpoints by %s of before are not there any more, and those of this start are compared "
                "with each other alone: %s",
                *(callback.monitor, ", ".join(scores)),
            )
        return
    order = sorted(there, key=lambda path: float(scores[path]), reverse=callback.mode == "max")
    order = order if callback.save_top_k == -1 else order[: callback.save_top_k]
    state |= {
        "dirpath": callback.dirpath,
        "best_k_models": {path: scores[path] for path in order},
        "best_model_path": order[0],
        "best_model_score": scores[order[0]],
        "kth_best_model_path": order[-1],
        "kth_value": scores[order[-1]],
    }
