"""What a checkpoint says about its run, for the model card."""

from typing import Any

from lightning.pytorch import Trainer


def run_record(trainer: Trainer, objective: str) -> dict[str, Any]:
    """Plain values: objective, steps, epoch, last metrics, hash of the training data.

    Args:
        trainer: in the middle of `fit`, or after it.
        objective: class name.
    """
    fingerprint = getattr(getattr(trainer, "datamodule", None), "fingerprint", None)
    return {
        "objective": objective,
        "step": trainer.global_step,
        "epoch": trainer.current_epoch,
        "processes": trainer.world_size,
        "metrics": {name: float(value) for name, value in trainer.callback_metrics.items()},
        "data_fingerprint": fingerprint() if fingerprint else None,
    }
