"""What is validated and saved beside a callback that averages weights is the average: so is what is measured."""

from collections.abc import Iterator
from contextlib import contextmanager

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging


@contextmanager
def averages_in_place(
    trainer: Trainer, module: LightningModule, callback: Callback, *, ends: bool = False
) -> Iterator[None]:
    """The average in the place of the weights that are trained, inside of the block.

    Lightning 2.6 puts it there for a validation, and at the end of training for good, one callback after the other:
    behind a validation those listed first have taken it back, at the end those listed last have not put it there yet.

    Args:
        trainer: with its callbacks.
        module: that is trained.
        callback: whose hook this is called in.
        ends: whether that is the end of training, and not of a validation.
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
