"""Averaged weights of Lightning's callback, and a run that is stopped while they are validated."""

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import WeightAveraging


def take_averages_back(trainer: Trainer) -> None:
    """Put the trained weights back into the model if a validation of the average was cut short.

    Lightning 2.6 leaves the average in their place if SIGTERM ends a validation. A checkpoint would then hold each of
    the two under the other's name.
    """
    if not trainer.validating:
        return
    for callback in reversed(trainer.callbacks):  # type: ignore[attr-defined]
        if isinstance(callback, WeightAveraging):
            callback.on_validation_epoch_end(trainer, trainer.lightning_module)
