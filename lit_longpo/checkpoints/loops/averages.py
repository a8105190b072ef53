"""Averaged weights of Lightning's callback, and a run that is stopped while they are validated."""

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import WeightAveraging


def take_averages_back(trainer: Trainer) -> None:
    """Put the weights that are trained in their place again: an average is there as long as a validation lasts.

    Lightning 2.6 leaves it there where SIGTERM ends a validation. A checkpoint would then call the average what is
    trained, and the other way round.

    Args:
        trainer: whose loop a signal has ended, maybe in the midst of a validation.
    """
    if not trainer.validating:
        return
    for callback in reversed(trainer.callbacks):  # type: ignore[attr-defined]
        if isinstance(callback, WeightAveraging):
            callback.on_validation_epoch_end(trainer, trainer.lightning_module)
