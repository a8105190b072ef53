"""Prefix-shared attention through torch's scaled_dot_product_attention, segment by segment.

Runs everywhere. Keys are put together from slices of the row (`cat`), whose backward is a plain sum in
fixed order, without atomics. Shape legend: see `attention.py`.
"""

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from lit_longpo.batch import Segment, SegmentTable

# A window is attended in query blocks of at least this many tokens: small masks, few calls.
_MIN_WINDOW_BLOCK = 256


def sdpa_attention(
    query: Tensor, key: Tensor, value: Tensor, table: SegmentTable, scaling: float | None, window: int | None
) -> Tensor:
    """Every segment's queries over its own pieces.

    Args:
        query: Shape: (1, H, T, D).
        key: Shape: (1, G, T, D).
        value: Shape: (1, G, T, D).
        table: boundaries of the row.
        scaling: factor of the scores; `None` means 1 / sqrt(D).
        window: how many keys, itself included, a query sees; `None` means all.

    Returns:
        Shape: (1, T, H, D).
    """
    keys, values = key.split(table.pieces, dim=2), value.split(table.pieces, dim=2)
    queries = query.split([segment.query_length for segment in table.segments], dim=2)
    outputs = [
        _attend(part, _gather(keys, segment), _gather(values, segment), scaling, window)
        for part, segment in zip(queries, table.segments, strict=True)
    ]
    return torch.cat(outputs, dim=2).transpose(1, 2)


def _gather(pieces: tuple[Tensor, ...], segment: Segment) -> Tensor:
    wanted = [pieces[number] for number in segment.key_pieces]
    return wanted[0] if len(wanted) == 1 else torch.cat(wanted, dim=2)


def _attend(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None) -> Tensor:
    """One segment: the queries are the last Q of K sequence positions (bottom-right causal)."""
    if window is not None and key.shape[2] > window:
        return _attend_window(query, key, value, scaling, window)
    if query.shape[2] == key.shape[2]:
        return scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=True)
    mask = _causal_mask(query.shape[2], key.shape[2], None, query.device)
    return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling, enable_gqa=True)


def _attend_window(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int) -> Tensor:
    """Query blocks against the keys their windows reach, so that no mask grows with Q x K."""
    block = max(window, _MIN_WINDOW_BLOCK)
    before = key.shape[2] - query.shape[2]
    outputs = []
    for start in range(0, query.shape[2], block):
        part = query[:, :, start : start + block]
        last = before + start + part.shape[2]
        first = max(0, before + start - window + 1)
        mask = _causal_mask(part.shape[2], last - first, window, query.device)
        outputs.append(
            scaled_dot_product_attention(
                part,
                key[:, :, first:last],
                value[:, :, first:last],
                attn_mask=mask,
                scale=scaling,
                enable_gqa=True,
            )
        )
    return torch.cat(outputs, dim=2)


def _causal_mask(num_queries: int, num_keys: int, window: int | None, device: torch.device) -> Tensor:
    """True where a query may look. Shape: (Q, K)."""
    last_key = torch.arange(num_keys - num_queries, num_keys, device=device).unsqueeze(1)
    keys = torch.arange(num_keys, device=device)
    mask = keys <= last_key
    return mask if window is None else mask & (keys > last_key - window)
