"""Prefix-shared attention through torch's scaled_dot_product_attention, segment by segment.

Runs everywhere. Keys are put together from slices of the row (`cat`), whose backward is a plain sum in
fixed order, without atomics. On a GPU cuDNN attends to long segments only, since it makes a plan for every
new shape. Shape legend: see `attention.py`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from lit_longpo.batch import Segment, SegmentTable
from lit_longpo.engine.backends import merged
from lit_longpo.engine.backends.sinks import attend_with_sinks

# A window is attended in query blocks of at least this many tokens: small masks, few calls.
MIN_WINDOW_BLOCK = 256
# Keys from which on cuDNN's faster attention pays for its plan: 30 ms of a CPU for every new shape (H200, torch 2.11).
LONG = 16384


def sdpa_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    table: SegmentTable,
    scaling: float | None,
    window: int | None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Every segment's queries over its own pieces.

    Args:
        query: Shape: (1, H, T, D).
        key: Shape: (1, G, T, D).
        value: Shape: (1, G, T, D).
        table: boundaries of the row.
        scaling: factor of the scores; `None` means 1 / sqrt(D).
        window: how many keys, itself included, a query sees; `None` means all.
        sinks: score of every head's sink; `None` if there are none. Shape: (H,).

    Returns:
        Shape: (1, T, H, D).
    """
    if sinks is None and merged.merges(query, key, value, table, window):
        query, key, value = merged.in_one_precision(query, key, value)
        return merged.merged_attention(query, key, value, table, scaling)

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return _attend(query, key, value, scaling, window, sinks)

    return each_segment(query, key, value, table, attend)


def each_segment(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    table: SegmentTable,
    attend: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> Tensor:
    """The row's attention from that of its segments.

    Args:
        query: Shape: (1, H, T, D).
        key: Shape: (1, G, T, D).
        value: Shape: (1, G, T, D).
        table: boundaries of the row.
        attend: (query (1, H, Q, D), key (1, G, K, D), value (1, G, K, D)) -> (1, H, Q, D); the queries are the last
            Q of K sequence positions.

    Returns:
        Shape: (1, T, H, D).
    """
    keys, values = key.split(table.pieces, dim=2), value.split(table.pieces, dim=2)
    queries = query.split([segment.query_length for segment in table.segments], dim=2)
    outputs = [
        attend(part, _gather(keys, segment), _gather(values, segment))
        for part, segment in zip(queries, table.segments, strict=True)
    ]
    return torch.cat(outputs, dim=2).transpose(1, 2)


@dataclass(frozen=True)
class Block:
    """Some queries of a segment, and the keys they reach."""

    queries: slice
    keys: slice


def query_blocks(num_queries: int, num_keys: int, window: int | None, block: int) -> Iterator[Block]:
    """A segment's queries in blocks of limited size, so that no mask grows with Q x K.

    Args:
        num_queries: Q, the last of K sequence positions.
        num_keys: K.
        window: how many keys, itself included, a query sees; `None` means all.
        block: queries at a time.
    """
    for start in range(0, num_queries, block):
        stop = min(start + block, num_queries)
        before = num_keys - num_queries
        first = 0 if window is None else max(0, before + start - window + 1)
        yield Block(slice(start, stop), slice(first, before + stop))


def outputs_of(blocks: Sequence[Block], attend: Callable[[Block], Tensor]) -> list[Tensor]:
    """What the blocks' queries attend to, one block after another. Shapes: (1, H, Q of a block, D)."""
    return [attend(block) for block in blocks]


def causal_mask(num_queries: int, num_keys: int, window: int | None, device: torch.device) -> Tensor:
    """True where a query may look. Shape: (num_queries, num_keys).

    Args:
        num_queries: they are the last positions.
        num_keys: all positions.
        window: how many keys, itself included, a query sees; `None` means all.
        device: of the mask.
    """
    last_key = torch.arange(num_keys - num_queries, num_keys, device=device).unsqueeze(1)
    keys = torch.arange(num_keys, device=device)
    mask = keys <= last_key
    return mask if window is None else mask & (keys > last_key - window)


def _gather(pieces: tuple[Tensor, ...], segment: Segment) -> Tensor:
    wanted = [pieces[number] for number in segment.key_pieces]
    return wanted[0] if len(wanted) == 1 else torch.cat(wanted, dim=2)


def _attend(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None, sinks: Tensor | None
) -> Tensor:
    """One segment: the queries are the last Q of K sequence positions (bottom-right causal)."""
    (num_queries, num_keys), device = (query.shape[2], key.shape[2]), query.device
    if window is None or num_keys <= window:
        mask = None if num_queries == num_keys else causal_mask(num_queries, num_keys, None, device)
        return _masked(query, key, value, mask, scaling, sinks)

    def attend(block: Block) -> Tensor:
        part, near = query[:, :, block.queries], key[:, :, block.keys]
        mask = causal_mask(part.shape[2], near.shape[2], window, device)
        return _masked(part, near, value[:, :, block.keys], mask, scaling, sinks)

    blocks = list(query_blocks(num_queries, num_keys, window, max(window, MIN_WINDOW_BLOCK)))
    return torch.cat(outputs_of(blocks, attend), dim=2)


def _masked(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None, sinks: Tensor | None
) -> Tensor:
    """Attention with an explicit mask; without one if it is plainly causal, with as many queries as keys."""
    if sinks is not None:
        return attend_with_sinks(query, key, value, mask, scaling, sinks)
    if query.is_cuda and (mask is not None or query.dtype == torch.float32):
        # Torch's kernels for a mask or fp32 know no grouped heads; it would write out all scores instead.
        key, value = (heads.repeat_interleave(query.shape[1] // key.shape[1], 1) for heads in (key, value))
    with nullcontext() if key.shape[2] >= LONG else without_plans(query.device):
        return scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=True
        )


@contextmanager
def without_plans(device: torch.device) -> Iterator[None]:
    """Keep torch's attention from cuDNN, which would make a plan for every new shape: 30 ms, and again for the next."""
    if not prefers_cudnn(device):
        yield
        return
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(True)


def prefers_cudnn(device: torch.device) -> bool:
    """Whether torch's attention takes cuDNN where it can: on Hopper GPUs and later ones, unless it is switched off."""
    return device.type == "cuda" and torch.backends.cuda.cudnn_sdp_enabled() and _capability(device) >= 9


@lru_cache
def _capability(device: torch.device) -> int:
    return torch.cuda.get_device_capability(device)[0]
