"""Measures the averaged weights, as Lightning's validation does, if a callback averages weights.

WeightAveraging has no public way to swap weights in and out, so its private `_swap_models` is called.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging


@contextmanager
def averages_in_place(
    trainer: Trainer, module: LightningModule, callback: Callback, *, ends: bool = False
) -> Iterator[None]:
    """Inside the block the module has the averaged weights.

    Lightning 2.6 swaps the average in for a validation, and for good at the end of training, in the hooks of one
    callback after the other. So after a validation, callbacks listed before this one have swapped it out already; at
    the end of training, callbacks listed after this one have not swapped it in yet.

    Args:
        trainer: with its callbacks.
        module: the module that is trained.
        callback: the callback in whose hook this is called.
        ends: whether the hook is that of the training's end, not of a validation's.
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    here = callbacks.index(callback)
    away = [each for each in (callbacks[here:] if ends else callbacks[:here]) if isinstance(each, WeightAveraging)]
    away = [each for each in away if each._average_model is not None]  # none in `validate` and `test`
    for average in away:
        average._swap_models(module)
    try:
        yield
    finally:
        for average in reversed(away):
            average._swap_models(module)
