"""Refuses Lightning strategies that would train something else here, or fail in the middle of a run."""

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, FSDPStrategy
from lightning.pytorch.utilities import GradClipAlgorithmType
from torch import nn

from lit_longpo.errors import InputError
from lit_longpo.strategies.accumulation import ends_step
from lit_longpo.strategies.deepspeed import AnyDeviceDeepSpeedStrategy


def check_strategy(strategy: object) -> None:
    """Refuse a strategy in whose place there is one of ours, or a newer one."""
    if isinstance(strategy, DeepSpeedStrategy) and not isinstance(strategy, AnyDeviceDeepSpeedStrategy):
        stage = (getattr(strategy, "config", None) or {}).get("zero_optimization", {}).get("stage", 2)
        overlay = f"deepspeed_zero{stage if stage in (1, 2, 3) else 2}"
        why = "which divides gradients by the number of accumulated rows twice"
    elif isinstance(strategy, FSDPStrategy):
        overlay, why = "fsdp2", "which gathers weights only around the whole model, whose parts are called here"
    else:
        return
    path, got = f"configs/overlays/{overlay}.yaml", type(strategy).__name__
    raise InputError(
        f"expected `trainer.strategy` as in {path}, got Lightning's {got}, {why}; type --config {path} in place of "
        "--trainer.strategy"
    )


def check_steps(trainer: Trainer) -> None:
    """Refuse ways to take a step that the strategy does not know; torch and DeepSpeed say so in the midst of it.

    Raises:
        InputError: gradients are accumulated in a static graph (pytorch#143580), or clipped by value under DeepSpeed.
    """
    by_value = getattr(trainer, "gradient_clip_algorithm", None) == GradClipAlgorithmType.VALUE
    if by_value and isinstance(trainer.strategy, DeepSpeedStrategy):
        raise InputError(
            "expected gradients to be clipped by their norm under DeepSpeed, got `trainer.gradient_clip_algorithm: "
            "value`; type --trainer.gradient_clip_algorithm norm, or --trainer.strategy ddp"
        )
    scheduled = any(isinstance(one, GradientAccumulationScheduler) for one in getattr(trainer, "callbacks", ()))
    accumulates = scheduled or trainer.accumulate_grad_batches > 1
    if accumulates and isinstance(trainer.strategy, DDPStrategy) and trainer.strategy._ddp_kwargs.get("static_graph"):
        raise InputError(
            "expected no `static_graph` of DDP where rows are accumulated, got both, with which torch ends in its "
            "first backward pass; leave `static_graph` out of `trainer.strategy.init_args`"
        )


def check_reached(trainer: Trainer, model: nn.Module) -> None:
    """Refuse trained weights that get no gradient under DDP, which waits for one of each before it averages.

    The step would be taken by gradients of each process alone, and the next end in torch's error. It waits in the last
    row of a step alone; rows before that need not reach all of them, nor do they help.
    """
    strategy = trainer.strategy
    if not isinstance(strategy, DDPStrategy) or isinstance(strategy, DeepSpeedStrategy) or not ends_step(trainer):
        return
    if any(strategy._ddp_kwargs.get(name) for name in ("find_unused_parameters", "static_graph")):
        return
    try:
        strategy.model._check_reducer_finalized()  # type: ignore[union-attr, operator]
    except RuntimeError as error:
        raise InputError(_unreached(strategy, model)) from error


def _unreached(strategy: DDPStrategy, model: nn.Module) -> str:
    """What the loss does not reach, by no row of the step or by its last one alone."""
    name = type(strategy).__name__
    missed = [one for one, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]
    if missed:
        reached, got = "every trained weight", f"{len(missed)} that it does not, for example `{missed[0]}`"
    else:
        reached, got = "every trained weight in the last row of a step, too,", "some that only earlier rows reach"
    return (
        f"expected the loss to reach {reached} under {name}, got {got}; leave them out (`policy.freeze`, or "
        f"`target_modules` of `policy.lora`), or type --trainer.strategy {name} "
        "--trainer.strategy.init_args.find_unused_parameters true"
    )
