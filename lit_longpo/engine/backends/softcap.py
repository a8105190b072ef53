"""Attention whose scores are soft-capped, x -> cap * tanh(x / cap), in blocks of queries.

Torch's fused kernels have no soft-cap. So a block's scores are computed, used and thrown away, forward and
again in backward: what exists at a time is block x K, and what is kept is what a flash kernel keeps: queries,
keys, values, output and one log-sum-exp per query. flash-attn has a soft-cap of its own (`flash.py`); this is
what runs elsewhere (and checkpointing's "keep_attention" recomputes it all the same). Shape legend: see
`attention.py`.
"""

from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.function import once_differentiable

from lit_longpo.batch import SegmentTable
from lit_longpo.engine.backends.merged import in_one_precision
from lit_longpo.engine.backends.sdpa import MIN_WINDOW_BLOCK, Block, causal_mask, each_segment, query_blocks
from lit_longpo.engine.tiling.tiles import accumulation_dtype

_BLOCK_BYTES = 128 * 2**20  # of fp32 scores that exist at a time; backward holds three such tensors


def softcapped_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    table: SegmentTable,
    scaling: float | None,
    window: int | None,
    softcap: float,
) -> Tensor:
    """As `sdpa_attention`, the scaled scores bounded by `softcap`."""
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    query, key, value = in_one_precision(query, key, value)

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out: Tensor = _SoftCapped.apply(query, key, value, scaling, window, softcap)
        return out

    return each_segment(query, key, value, table, attend)


class _SoftCapped(torch.autograd.Function):
    """One segment; the H heads stand as G groups of H / G rows over one key/value head each."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None, softcap: float
    ) -> Tensor:
        exact = accumulation_dtype(query.dtype)
        output = query.new_empty(*query.shape[:3], value.shape[3])
        log_sums = query.new_empty(key.shape[1], query.shape[1] // key.shape[1], query.shape[2], dtype=exact)
        with torch.autocast(query.device.type, enabled=False):
            for block in _blocks(query, key, window):
                scores = _capped(_scores(query, key, block, scaling), softcap, window)
                log_sums[:, :, block.queries] = scores.logsumexp(-1)
                weights = scores.sub_(log_sums[:, :, block.queries].unsqueeze(-1)).exp_().to(value.dtype)
                output[0, :, block.queries] = _times(weights, value[0, :, block.keys]).flatten(0, 1)
        ctx.save_for_backward(query, key, value, output, log_sums)
        ctx.settings = scaling, window, softcap
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, output, log_sums = ctx.saved_tensors
        scaling, window, softcap = ctx.settings
        exact = log_sums.dtype
        rows = (grad.to(exact) * output).sum(-1)[0].unflatten(0, (key.shape[1], -1))
        grad_query = torch.empty_like(query)
        grad_key, grad_value = (torch.zeros_like(tensor, dtype=exact) for tensor in (key, value))
        for block in _blocks(query, key, window):
            scores = _scores(query, key, block, scaling)
            weights = _capped(scores.clone(), softcap, window).sub_(log_sums[:, :, block.queries].unsqueeze(-1)).exp_()
            by_weight = _times(_grouped(grad, key, block), value[0, :, block.keys].transpose(1, 2)).to(exact)
            grad_value[0, :, block.keys] += _over_rows(weights.to(value.dtype), _grouped(grad, key, block))
            by_score = weights.mul_(by_weight.sub_(rows[:, :, block.queries].unsqueeze(-1)))
            by_score.mul_(1.0 - scores.div_(softcap).tanh_().square_()).mul_(scaling)
            by_score = by_score.to(key.dtype)
            grad_query[:, :, block.queries] = _times(by_score, key[0, :, block.keys]).flatten(0, 1)
            grad_key[0, :, block.keys] += _over_rows(by_score, _grouped(query, key, block))
        return grad_query, grad_key.to(key.dtype), grad_value.to(value.dtype), None, None, None


def _blocks(query: Tensor, key: Tensor, window: int | None) -> list[Block]:
    (num_heads, num_queries), num_keys = query.shape[1:3], key.shape[2]
    reach = num_keys if window is None else min(num_keys, window)
    block = max(1, _BLOCK_BYTES // (4 * num_heads * reach))
    if window is not None:
        block = min(block, max(window, MIN_WINDOW_BLOCK))  # a longer one would see more keys than it may use
    blocks = list(query_blocks(num_queries, num_keys, window, block))
    if isinstance(query, FakeTensor):  # a plan asks for sizes alone: the largest block borrows the most
        return [max(blocks, key=lambda part: _length(part.queries) * _length(part.keys))]
    return blocks


def _length(part: slice) -> int:
    length: int = part.stop - part.start
    return length


def _grouped(tensor: Tensor, key: Tensor, block: Block) -> Tensor:
    """A block's queries, or their gradients. Shape: (1, H, Q, D) -> (G, H / G, q, D)."""
    return tensor[0, :, block.queries].unflatten(0, (key.shape[1], -1))


def _scores(query: Tensor, key: Tensor, block: Block, scaling: float) -> Tensor:
    """In fp32, or fp64 where that comes in. Shape: (G, H / G, q, k)."""
    scores = _times(_grouped(query, key, block), key[0, :, block.keys].transpose(1, 2))
    return scores.to(accumulation_dtype(scores.dtype)).mul_(scaling)


def _capped(scores: Tensor, softcap: float, window: int | None) -> Tensor:
    """In place; minus infinity where a query may not look."""
    mask = causal_mask(scores.shape[2], scores.shape[3], window, scores.device)
    return scores.div_(softcap).tanh_().mul_(softcap).masked_fill_(~mask, -torch.inf)


def _times(rows: Tensor, matrix: Tensor) -> Tensor:
    """(G, H / G, q, x) by (G, x, y) -> (G, H / G, q, y)."""
    return (rows.flatten(1, 2) @ matrix).unflatten(1, rows.shape[1:3])


def _over_rows(rows: Tensor, others: Tensor) -> Tensor:
    """Summed over heads and queries of a group. (G, H / G, q, x), (G, H / G, q, y) -> (G, x, y)."""
    return rows.flatten(1, 2).transpose(1, 2) @ others.flatten(1, 2)
