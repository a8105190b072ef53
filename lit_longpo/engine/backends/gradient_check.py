"""Checks the gradients of a flash kernel once, at the start-up probe.

Only kernels with sinks or a soft-cap are checked, and those with another kernel to fall back to (FlashAttention-3).

The probe itself compares log-probabilities, which a wrong backward pass does not change: training would silently go
wrong. So a row of a few tokens goes through the kernel and, in fp32 on the same device, through the portable backend,
and their gradients are compared. Shape legend: see `attention.py`.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from lit_longpo.batch import Segment, SegmentTable
from lit_longpo.engine.backends.flash import Extra, VarlenKernel, flash_attention

Portable = Callable[..., Tensor]

_TOLERANCE = {torch.bfloat16: 5e-2, torch.float16: 2e-2}
_SMALL_WINDOW = 256  # a larger one is not filled


@lru_cache
def gradient_error(
    kernel: VarlenKernel,
    portable: Portable,
    device: torch.device,
    dtype: torch.dtype,
    heads: tuple[int, int, int, int],
    scaling: float | None,
    window: int | None,
    extra: Extra | None,
    softcap: float | None,
) -> str | None:
    """By how much a kernel's gradients are wrong, in words; `None` if they are right. No random state is touched.

    Args:
        kernel: to be tried.
        portable: attention that is right on any device.
        device: of the kernel.
        dtype: half precision.
        heads: H, G, the size of queries and keys, and that of values.
        scaling: factor of the scores.
        window: how many keys a query sees; `None` means all.
        extra: what the attention has beyond the plain one, if anything.
        softcap: the bound, if it is that.
    """
    table = _table(window)
    given = {name: tensor.to(device, dtype) for name, tensor in _inputs(table.num_tokens, heads).items()}
    option = given.pop("sinks") if extra == "sinks" else softcap
    weights = given.pop("weights").float()

    def gradients(attend: Portable, precision: torch.dtype, *last: Any) -> list[Tensor]:
        tensors = [given[name].to(precision).requires_grad_() for name in ("query", "key", "value")]
        own = option.to(precision).requires_grad_() if isinstance(option, Tensor) else option
        wanted = [*tensors, own] if isinstance(own, Tensor) else tensors
        out = attend(*tensors, table, scaling, window, *last, **({} if extra is None else {extra: own}))
        return list(torch.autograd.grad((out.float() * weights).sum(), wanted))

    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        worst = largest_error(gradients(flash_attention, dtype, kernel), gradients(portable, torch.float32))
    return None if worst <= _TOLERANCE[dtype] else f"{worst:.1e} (tolerance {_TOLERANCE[dtype]:.0e})"


def largest_error(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest error of several tensors, relative to the largest number of each; NaN counts as the largest of all.

    Args:
        found: in any precision.
        expected: in fp32. Shape of each: as found.
    """
    pairs = zip(found, expected, strict=True)
    errors = [float((one.float() - other).abs().max() / other.abs().max()) for one, other in pairs]
    return max(errors, key=lambda error: math.inf if math.isnan(error) else error)


def _table(window: int | None) -> SegmentTable:
    """Two prompts, the first with two responses, longer than the window if that is small."""
    length = 24 + (window if window is not None and window <= _SMALL_WINDOW else 0)
    pieces, owners = (length, 7, 5, 9, 3), ((0,), (0, 1), (0, 2), (3,), (3, 4))
    return SegmentTable(pieces, tuple(Segment(pieces[own[-1]], own) for own in owners))


def _inputs(num_tokens: int, heads: tuple[int, int, int, int]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    queries, keys, size, width = heads

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        "query": draw(1, queries, num_tokens, size),
        "key": draw(1, keys, num_tokens, size),
        "value": draw(1, keys, num_tokens, width),
        "weights": draw(1, num_tokens, queries, width),
        "sinks": torch.linspace(-1.0, 2.0, queries),
    }
