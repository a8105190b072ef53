"""AdamW in one kernel: torch's own, wherever the parameters allow it."""

from collections.abc import Iterable

import torch

_DEVICES = {"cuda", "cpu", "xpu", "mps"}


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


def _can_fuse(params: list[torch.nn.Parameter]) -> bool:
    tensors = [tensor for entry in params for tensor in (entry["params"] if isinstance(entry, dict) else [entry])]
    return all(tensor.is_floating_point() and tensor.device.type in _DEVICES for tensor in tensors)
