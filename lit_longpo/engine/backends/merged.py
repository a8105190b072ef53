"""Attention of rows whose groups share tokens, from parts: no keys are copied, no mask exists.

A segment's keys are its own, which lie where its queries lie, and pieces before them that other segments see too. So
its own queries and keys are one causal call, and every shared piece is one call over the queries of all segments that
see it, without any mask. Each part of a query comes with its log-sum-exp l_i; with total = log(sum_i exp(l_i)) the
output is sum_i exp(l_i - total) out_i. Backward gives every part's kernel the whole output and total in place of its
own pair; its weights become exp(x - total), and what it returns are its keys' gradients and its part of the queries'.

Gathered keys (`sdpa.py`) cost a copy of the shared tokens for each segment, and torch's attention a mask and the whole
square for segments that do not begin their sequence: eight documents of 8,000 tokens behind one system prompt would
cost twice the attention that they cost without sharing it. Answers of one long prompt gain less, but their queries are
one call over it, and no copy of it waits for backward. Short pieces are copied: that takes fewer calls. In half
precision every part's output is rounded, so there only chains come in parts. Shape legend: see `attention.py`.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lit_longpo.batch import SegmentTable
from lit_longpo.engine.tiling.tiles import accumulation_dtype

_FORWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
LONGEST_COPY = 512  # tokens of a shared piece


@dataclass(frozen=True)
class Part:
    """One call: some queries over some keys.

    Args:
        queries: runs of the row.
        keys: a run of the row.
        causal: the keys are the queries' own.
    """

    queries: tuple[slice, ...]
    keys: slice
    causal: bool


def merges(query: Tensor, key: Tensor, value: Tensor, table: SegmentTable, window: int | None) -> bool:
    """Whether a row's attention is computed in parts: a long piece or a chain of pieces is shared, on a CPU.

    Arguments are those of `sdpa_attention`; shapes: (1, H, T, D) and (1, G, T, D).
    """
    if query.device.type != "cpu" or query.shape[-1] != value.shape[-1]:
        return False
    if query.shape[2] != table.num_tokens:  # some segments may be attended apart
        return False
    if window is not None and window < max(table.sequence_lengths):
        return False
    lies_well = all(tensor.stride(-1) == 1 for tensor in (query, key, value))
    return is_chained(table) or (lies_well and _is_whole(query) and copies_much(table))


@lru_cache(maxsize=16)
def copies_much(table: SegmentTable) -> bool:
    """Whether gathered keys would hold a long piece a second time."""
    return any(table.pieces[piece] > LONGEST_COPY for segment in table.segments for piece in segment.key_pieces[:-1])


def _is_whole(query: Tensor) -> bool:
    device = query.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else query.dtype
    return dtype.itemsize >= 4


@lru_cache(maxsize=16)
def is_chained(table: SegmentTable) -> bool:
    """Whether prompts of several groups begin in one piece, and go on in others."""
    return any(len(segment.key_pieces) > 2 for segment in table.segments)


def merged_attention(query: Tensor, key: Tensor, value: Tensor, table: SegmentTable, scaling: float | None) -> Tensor:
    """As `sdpa_attention`, without a window."""
    out: Tensor = _Merged.apply(query, key, value, parts_of(table), scaling)
    return out.transpose(1, 2)


@lru_cache(maxsize=16)
def parts_of(table: SegmentTable) -> tuple[Part, ...]:
    """The calls: every segment's own, then one for each shared piece."""
    starts = [0, *accumulate(table.pieces)]
    own, seen, end = list[Part](), dict[int, list[slice]](), 0
    for segment in table.segments:
        queries = slice(end, end + segment.query_length)
        end = queries.stop
        own.append(Part((queries,), queries, causal=True))
        for piece in segment.key_pieces:
            if starts[piece] < queries.start:
                seen.setdefault(piece, []).append(queries)
    shared = [Part(tuple(runs), slice(starts[p], starts[p + 1]), causal=False) for p, runs in seen.items()]
    return (*own, *shared)


def in_one_precision(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in the precision in which autocast would give them to torch's own attention."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    return tuple(tensor.to(torch.get_autocast_dtype(device)) for tensor in tensors)


class _Merged(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, parts: tuple[Part, ...], scaling: float | None
    ) -> Tensor:
        exact = accumulation_dtype(query.dtype)
        output, total = torch.empty_like(query, dtype=exact), query.new_empty(query.shape[:3], dtype=exact)
        for part in parts:
            keys, values = key[:, :, part.keys], value[:, :, part.keys]
            out, log_sums = _FORWARD(_taken(query, part), keys, values, 0.0, part.causal, scale=scaling)
            _merge(output, total, out, log_sums, part)
        output = output.to(query.dtype)
        ctx.save_for_backward(query, key, value, output, total)
        ctx.settings = parts, scaling
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, output, total = ctx.saved_tensors
        parts, scaling = ctx.settings
        sums = [torch.zeros_like(tensor, dtype=total.dtype) for tensor in (query, key, value)]
        for part in parts:
            near = key[:, :, part.keys], value[:, :, part.keys]
            slope, asked, out, log_sums = (_taken(tensor, part) for tensor in (grad, query, output, total))
            found = _BACKWARD(slope, asked, *near, out, log_sums, 0.0, part.causal, scale=scaling)
            _add(sums[0], found[0], part.queries)
            for whole, gradient in zip(sums[1:], found[1:], strict=True):
                whole[:, :, part.keys] += gradient
        return (*(whole.to(query.dtype) for whole in sums), None, None)


def _taken(tensor: Tensor, part: Part) -> Tensor:
    """The slice of a tensor at a part's queries. Shape: (1, H, T, ...) -> (1, H, Q, ...)."""
    runs = [tensor[:, :, run] for run in part.queries]
    return runs[0] if len(runs) == 1 else torch.cat(runs, dim=2)


def _add(whole: Tensor, gradient: Tensor, runs: tuple[slice, ...]) -> None:
    for run, own in zip(runs, gradient.split([run.stop - run.start for run in runs], dim=2), strict=True):
        whole[:, :, run] += own


def _merge(output: Tensor, total: Tensor, out: Tensor, log_sums: Tensor, part: Part) -> None:
    """Merge one more part into the output of its queries, in place; the first part of a query is copied."""
    sizes = [run.stop - run.start for run in part.queries]
    for run, own, sums in zip(part.queries, out.split(sizes, dim=2), log_sums.split(sizes, dim=2), strict=True):
        if part.causal:
            output[:, :, run], total[:, :, run] = own, sums
            continue
        before = total[:, :, run].clone()
        torch.logaddexp(before, sums, out=total[:, :, run])
        shares = [(log_sum - total[:, :, run]).exp_().unsqueeze(-1) for log_sum in (before, sums)]
        output[:, :, run] = output[:, :, run] * shares[0] + own.to(output.dtype) * shares[1]
