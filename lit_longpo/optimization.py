"""Optimizer and learning-rate schedule, configurable from YAML."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers.optimization import get_scheduler

_FUSED_DEVICES = {"cuda", "cpu", "xpu", "mps"}


class FusedAdamW(torch.optim.AdamW):
    """AdamW, in one kernel where the parameters allow it.

    Args:
        params: parameters or parameter groups.
        lr: peak learning rate.
        betas: decay of the two running averages.
        eps: added to the denominator.
        weight_decay: decoupled weight decay.
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        params = list(params)
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=_can_fuse(params))


@dataclass
class Optimization:
    """How the policy is optimized.

    Args:
        optimizer: class and arguments, for example `class_path: FusedAdamW` with `init_args: {lr: 5e-7}`.
        schedule: shape of the learning rate after the warm-up.
        warmup_fraction: share of all optimizer steps over which the rate rises from 0.
    """

    optimizer: OptimizerCallable = FusedAdamW
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup_fraction: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 <= self.warmup_fraction < 1.0:
            raise ValueError(
                f"expected `optimization.warmup_fraction` in [0, 1), got {self.warmup_fraction}; 0.1 warms up over "
                "the first tenth of the steps"
            )

    def build(self, parameters: Iterable[torch.nn.Parameter], num_steps: int) -> tuple[Optimizer, LambdaLR]:
        """Optimizer over `parameters` and its per-step schedule over `num_steps` optimizer steps."""
        optimizer = self.optimizer(parameters)
        # Fused kernels could unscale gradients themselves, but clipping has to see them unscaled: Lightning does it.
        optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
        name = "constant_with_warmup" if self.schedule == "constant" else self.schedule
        warmup = round(self.warmup_fraction * num_steps)
        return optimizer, get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=num_steps)


def _can_fuse(params: list[torch.nn.Parameter]) -> bool:
    tensors = [tensor for entry in params for tensor in (entry["params"] if isinstance(entry, dict) else [entry])]
    return all(tensor.is_floating_point() and tensor.device.type in _FUSED_DEVICES for tensor in tensors)
