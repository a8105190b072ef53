"""Gradient accumulation: where an optimizer step ends, and scaling its gradients under any strategy."""

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from lit_longpo.strategies.deepspeed import AnyDeviceDeepSpeedStrategy


def rows_of_a_step(trainer: Trainer, epoch: int) -> int:
    """How many rows are accumulated in an epoch: one number, or a schedule (Lightning estimates no steps then)."""
    schedules = [one for one in getattr(trainer, "callbacks", ()) if isinstance(one, GradientAccumulationScheduler)]
    return schedules[-1].get_accumulate_grad_batches(epoch) if schedules else trainer.accumulate_grad_batches


def ends_step(trainer: Trainer) -> bool:
    """Whether the row that is being trained on is the last one before the optimizer's step."""
    return not trainer.fit_loop._should_accumulate()


def multiply_gradients(trainer: Trainer, model: nn.Module, factor: Tensor) -> None:
    """Multiply the gradients of the step that comes next, before they are looked at and clipped.

    The factor, of shape (), is the same on every rank.
    """
    if isinstance(trainer.strategy, AnyDeviceDeepSpeedStrategy):
        trainer.strategy.multiply_next_gradients(float(factor))
        return
    for parameter in model.parameters():
        gradient = parameter.grad
        if gradient is not None:
            (gradient.to_local() if isinstance(gradient, DTensor) else gradient).mul_(factor)
