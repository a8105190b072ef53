"""Prefix-shared attention as one variable-length flash call over all segments of the row.

Queries stay where they are; the keys of every segment are gathered one after another, so that a call
with different query and key lengths, causal from the bottom right, is the whole attention: no mask of
any size exists. The start-up probe compares it with separate rows on the device it runs on, so a kernel
that aligned its causal mask otherwise would be refused there. Shape legend: see `attention.py`.
"""

import importlib
import importlib.util
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from lit_longpo.batch import SegmentTable, tensor_on


@dataclass(frozen=True)
class VarlenKernel:
    """A flash kernel behind one signature.

    Args:
        name: for the log.
        call: (query (T, H, D), key (K, G, D), value (K, G, D), plan, scaling, (left, right) window) -> (T, H, D).
    """

    name: str
    call: Callable[[Tensor, Tensor, Tensor, "VarlenPlan", float | None, tuple[int, int]], Tensor]


@dataclass(frozen=True)
class VarlenPlan:
    """Cumulative lengths of all segments.

    Args:
        query_starts: Shape: (segments + 1,), int32.
        key_starts: Shape: (segments + 1,), int32.
        longest_query: tokens.
        longest_key: tokens.
    """

    query_starts: Tensor
    key_starts: Tensor
    longest_query: int
    longest_key: int


def flash_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    table: SegmentTable,
    scaling: float | None,
    window: int | None,
    kernel: VarlenKernel,
) -> Tensor:
    """Every segment's queries over its own pieces, in one call.

    Args:
        query: Shape: (1, H, T, D).
        key: Shape: (1, G, T, D).
        value: Shape: (1, G, T, D).
        table: boundaries of the row.
        scaling: factor of the scores; `None` means 1 / sqrt(D).
        window: how many keys, itself included, a query sees; `None` means all.
        kernel: what computes it.

    Returns:
        Shape: (1, T, H, D).
    """
    plan = varlen_plan(table, query.device)
    reach = (-1 if window is None else window - 1, 0)
    keys, values = (_gather(tensor[0].transpose(0, 1), table) for tensor in (key, value))
    return kernel.call(query[0].transpose(0, 1).contiguous(), keys, values, plan, scaling, reach).unsqueeze(0)


@lru_cache(maxsize=16)
def varlen_plan(table: SegmentTable, device: torch.device) -> VarlenPlan:
    """Lengths on the device, once for all layers of a step."""
    queries = [segment.query_length for segment in table.segments]
    keys = [sum(table.pieces[piece] for piece in segment.key_pieces) for segment in table.segments]
    return VarlenPlan(_starts(queries, device), _starts(keys, device), max(queries), max(keys))


@lru_cache
def find_kernel(device_type: str, dtype: torch.dtype) -> VarlenKernel | None:
    """The first kernel that serves this device and precision: flash-attn, else torch's own; `None` if none does."""
    if device_type != "cuda" or dtype not in (torch.bfloat16, torch.float16):
        return None
    if importlib.util.find_spec("flash_attn") is not None:
        function = importlib.import_module("flash_attn").flash_attn_varlen_func
        return VarlenKernel("flash-attn, variable lengths", lambda *args: _flash_attn(function, *args))
    function = _torch_varlen()
    if function is None:
        return None
    return VarlenKernel("torch flash, variable lengths", lambda *args: _torch_flash(function, *args))


def _starts(lengths: list[int], device: torch.device) -> Tensor:
    return tensor_on(device, [0, *accumulate(lengths)], torch.int32)


def _gather(row: Tensor, table: SegmentTable) -> Tensor:
    """Keys or values of all segments, one after another. Shape: (K, G, D)."""
    pieces = row.split(table.pieces)
    return torch.cat([pieces[piece] for segment in table.segments for piece in segment.key_pieces])


def _torch_varlen() -> Callable[..., Tensor] | None:
    """Torch's variable-length attention, if this torch has one with windows and grouped heads."""
    if importlib.util.find_spec("torch.nn.attention.varlen") is None:
        return None
    function: Callable[..., Tensor] = importlib.import_module("torch.nn.attention.varlen").varlen_attn
    needed = {"window_size", "enable_gqa", "scale"}
    return function if needed <= set(inspect.signature(function).parameters) else None


def _flash_attn(
    function: Callable[..., Any],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    plan: VarlenPlan,
    scaling: float | None,
    reach: tuple[int, int],
) -> Tensor:
    starts = (plan.query_starts, plan.key_starts, plan.longest_query, plan.longest_key)
    return function(query, key, value, *starts, softmax_scale=scaling, causal=True, window_size=reach)


def _torch_flash(
    function: Callable[..., Tensor],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    plan: VarlenPlan,
    scaling: float | None,
    reach: tuple[int, int],
) -> Tensor:
    starts = (plan.query_starts, plan.key_starts, plan.longest_query, plan.longest_key)
    return function(query, key, value, *starts, scale=scaling, window_size=reach, enable_gqa=True)
