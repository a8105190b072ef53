"""Attention sinks: every query head has a learned score that takes a share of its softmax and gives nothing.

With s the sink of a head, the weights are exp(x_j) / (exp(s) + sum_j exp(x_j)). No fused kernel that runs
everywhere knows that, so there are two exact ways around one that does not:

* **an extra key** (`attend_with_sinks`): q' = [q, s / scale], k' = [k, 0], and a first key [0, 1] whose value
  is 0. The sink sits in the query, because heads that share keys have sinks of their own.
* **a fold** (`folded_sinks`): with the kernel's own log-sum-exp l of a query, total = log(exp(l) + exp(s)) and
  out = exp(l - total) * kernel's output. The kernel's backward is given (out, total) in place of its own pair,
  and is exact with them: its weights become exp(x - total), its row term (grad . out). What it does not know
  is ds = - sum over queries of exp(s - total) * (grad . out). Autograd cannot do this: no kernel
  differentiates its log-sum-exp.

Shape legend: see `attention.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad, scaled_dot_product_attention


def attend_with_sinks(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None, sinks: Tensor
) -> Tensor:
    """Torch's attention with an extra key.

    Args:
        query: Shape: (1, H, Q, D).
        key: Shape: (1, G, K, D).
        value: Shape: (1, G, K, any).
        mask: True where a query may look; `None` is causal, with as many queries as keys. Shape: (Q, K).
        scaling: factor of the scores; `None` means 1 / sqrt(D).
        sinks: Shape: (H,).

    Returns:
        Shape: (1, H, Q, any).
    """
    size, width = query.shape[-1], value.shape[-1]
    scaling = size**-0.5 if scaling is None else scaling
    wide = (size // 8 + 1) * 8  # kernels want multiples of 8, and values as wide as keys
    last = (sinks / scaling).to(query.dtype).view(1, -1, 1, 1).expand(*query.shape[:3], 1)
    query = pad(torch.cat([query, last], dim=-1), (0, wide - size - 1))
    key = torch.cat([_sink_key(key, wide), pad(key, (0, wide - size))], dim=2)
    value = pad(value, (0, max(0, wide - width), 1, 0))
    if mask is not None:
        mask = torch.cat([mask.new_ones(len(mask), 1), mask], dim=1)
        out = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling, enable_gqa=True)
    else:  # a first query that sees the sink alone keeps it causal without any mask
        query = pad(query, (0, 0, 1, 0))
        out = scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=True)[:, :, 1:]
    return out[..., :width]


def _sink_key(key: Tensor, wide: int) -> Tensor:
    """The key whose score is what stands behind the query's own numbers. Shape: (1, G, 1, wide)."""
    row = torch.arange(wide, device=key.device) == key.shape[-1]
    return row.to(key.dtype).expand(1, key.shape[1], 1, wide)


@dataclass(frozen=True)
class KernelPair:
    """A fused kernel that knows no sinks, forward and backward, over the segments of a row.

    Args:
        forward: (query, key, value) -> output (T, H, D), log-sum-exp (H, T), and what backward wants besides.
        backward: (grad, query, key, value, output, log-sum-exp, that) -> gradients of query, key and value.
    """

    forward: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, tuple[Tensor, ...]]]
    backward: Callable[..., tuple[Tensor, Tensor, Tensor]]


def folded_sinks(query: Tensor, key: Tensor, value: Tensor, sinks: Tensor, kernels: KernelPair) -> Tensor:
    """A kernel pair's attention with sinks.

    Args:
        query: Shape: (T, H, D).
        key: of all segments, one after another. Shape: (K, G, D).
        value: Shape: (K, G, D).
        sinks: Shape: (H,).
        kernels: what attends without sinks.

    Returns:
        Shape: (T, H, D).
    """
    out: Tensor = _Fold.apply(query, key, value, sinks, kernels)
    return out


class _Fold(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, sinks: Tensor, kernels: KernelPair) -> Tensor:
        out, log_sums, rest = kernels.forward(query, key, value)
        scores = sinks.detach().to(log_sums.dtype, copy=True)  # sharded parameters are freed after forward
        total = torch.logaddexp(log_sums, scores.unsqueeze(1))
        shares = (log_sums - total).exp().t().unsqueeze(-1)
        out = torch.mul(out, shares, out=torch.empty_like(out))  # rounded once; not in place, checkpointing may keep it
        ctx.save_for_backward(query, key, value, out, total, scores, *rest)
        ctx.kernels, ctx.dtype = kernels, sinks.dtype
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, out, total, scores, *rest = ctx.saved_tensors
        grad = grad.contiguous()
        gradients = ctx.kernels.backward(grad, query, key, value, out, total, tuple(rest))
        rows = (grad.to(total.dtype) * out).sum(-1).t()
        shares = (scores.unsqueeze(1) - total).exp()
        return *gradients, -(shares * rows).sum(1).to(ctx.dtype), None
