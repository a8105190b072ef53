"""Shapes of the learning rate over the steps: pure functions, for `torch.optim.lr_scheduler.LambdaLR`.

The shapes are transformers' (`get_scheduler`), which the tests compare with. They are not imported from there: that
module imports its trainer, and with it peft and bitsandbytes and torch's compiler, 2 seconds at every start.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

Shape = Literal["constant", "linear", "cosine"]
# Share of the fall that is left, by progress through the steps after the warm-up: 0 at the first of them, 1 at the end.
_LEFT: dict[Shape, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
}


def share_of_peak(step: int, *, shape: Shape, warmup: int, num_steps: int, floor: float) -> float:
    """Learning rate of a step as a share of the highest.

    Args:
        step: optimizer steps taken so far.
        shape: after the warm-up.
        warmup: steps over which the rate rises from 0 in a line.
        num_steps: of the whole fit, warm-up included.
        floor: share that "linear" and "cosine" end at.
    """
    if step < warmup:
        return step / warmup
    progress = min(1.0, (step - warmup) / max(1, num_steps - warmup))  # behind the end a cosine would rise again
    return max(0.0, _LEFT[shape](progress)) * (1.0 - floor) + floor


def stretch_schedule(schedule: LambdaLR, num_steps: int, warmup: int) -> None:
    """Let a schedule end after another number of steps, from the next step on."""
    settings = {**(_settings(schedule) or {}), "num_steps": num_steps, "warmup": warmup}
    shape: Callable[[int], float] = partial(share_of_peak, **settings)
    schedule.lr_lambdas = [shape] * len(schedule.lr_lambdas)
    share = shape(schedule.last_epoch)
    for group, rate in zip(schedule.optimizer.param_groups, schedule.base_lrs, strict=True):
        group["lr"] = rate * share
    schedule._last_lr = [rate * share for rate in schedule.base_lrs]


def steps_of(schedule: Any) -> int | None:
    """After how many steps a schedule of `build_schedule` ends; `None` of somebody's own."""
    settings = _settings(schedule)
    return None if settings is None else int(settings["num_steps"])


def _settings(schedule: Any) -> dict[str, Any] | None:
    shape = next(iter(getattr(schedule, "lr_lambdas", ())), None)
    return dict(shape.keywords) if isinstance(shape, partial) and shape.func is share_of_peak else None


def build_schedule(optimizer: Optimizer, shape: Shape, warmup: int, num_steps: int, floor: float) -> LambdaLR:
    """One shape for all groups of an optimizer; arguments as of `share_of_peak`."""
    # A partial, as transformers' are: a plain function would look otherwise in a checkpoint.
    return LambdaLR(optimizer, partial(share_of_peak, shape=shape, warmup=warmup, num_steps=num_steps, floor=floor))
