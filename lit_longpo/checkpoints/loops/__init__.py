"""Changes to Lightning's loops and callbacks, so that no step of a stopped run is lost or counted twice."""

from collections.abc import Callable, Iterator

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


def unchanged_hooks(
    trainer: Trainer, kinds: type[Callback] | tuple[type[Callback], ...], *names: str
) -> Iterator[tuple[Callback, str, Callable[..., None]]]:
    """Hooks of some callbacks that are not replaced yet, so that a second `fit` does not wrap them twice.

    Yields:
        Callback, the hook's name, and the hook.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, kinds):
            for name in names:
                if name not in vars(callback):
                    yield callback, name, getattr(callback, name)


def model_checkpoints(trainer: Trainer) -> list[ModelCheckpoint]:
    """The trainer's callbacks that write checkpoints, in their order; empty without any."""
    return [each for each in getattr(trainer, "checkpoint_callbacks", ()) if isinstance(each, ModelCheckpoint)]
