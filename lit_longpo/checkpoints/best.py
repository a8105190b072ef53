"""The best checkpoint of a training that goes on in another folder is the best of all of it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint


def remember_best(callbacks: Iterable[Callback], checkpoint: dict[str, Any]) -> None:
    """Let a ModelCheckpoint count what it has kept before a resume among its best ones, wherever that lies.

    Every start has a folder of its own, and Lightning 2.6 forgets the best ones of another folder: the first weights
    that were kept after a resume were the best then, whatever they were worth. It deletes nothing in that folder.

    Args:
        callbacks: of a trainer that is about to go on.
        checkpoint: that it goes on from; changed in place.
    """
    states = checkpoint.get("callbacks") or {}
    for callback in callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.monitor and callback.state_key in states:
            _move(states[callback.state_key], callback)


def _move(state: dict[str, Any], callback: ModelCheckpoint) -> None:
    kept = {path: score for path, score in (state.get("best_k_models") or {}).items() if Path(path).exists()}
    if state.get("dirpath") == callback.dirpath or not kept or not callback.save_top_k:
        return
    order = sorted(kept, key=lambda path: float(kept[path]), reverse=callback.mode == "max")
    order = order if callback.save_top_k == -1 else order[: callback.save_top_k]
    state |= {
        "dirpath": callback.dirpath,
        "best_k_models": {path: kept[path] for path in order},
        "best_model_path": order[0],
        "best_model_score": kept[order[0]],
        "kth_best_model_path": order[-1],
        "kth_value": kept[order[-1]],
    }
