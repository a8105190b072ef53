"""Shapes of the learning rate over the steps: pure functions, for `torch.optim.lr_scheduler.LambdaLR`.

The shapes are transformers' (`get_scheduler`), which the tests compare with. They are not imported from there: that
module imports its trainer, and with it peft and bitsandbytes and torch's compiler, 2 seconds at every start.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

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
    progress = (step - warmup) / max(1, num_steps - warmup)
    return max(0.0, _LEFT[shape](progress)) * (1.0 - floor) + floor


def build_schedule(optimizer: Optimizer, shape: Shape, warmup: int, num_steps: int, floor: float) -> LambdaLR:
    """One shape for all groups of an optimizer; arguments as of `share_of_peak`."""
    # A partial, as transformers' are: a plain function would look otherwise in a checkpoint.
    return LambdaLR(optimizer, partial(share_of_peak, shape=shape, warmup=warmup, num_steps=num_steps, floor=floor))
