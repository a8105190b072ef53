"""Prefix-shared attention: every segment of a packed row sees its own pieces and nothing else.

Registered with transformers under `PREFIX_SHARED`. That name has no mask function, so transformers
builds no mask and does not guess boundaries from position ids: the segment table that travels as a
keyword of `model.forward` is the only source of boundaries. Keys are put together from slices of
the row (`cat`), whose backward is a plain sum in fixed order, without atomics.

Shape legend: H query heads, G key/value heads, D head size, T row, Q queries and K keys of a segment.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from lit_longpo.batch import Segment, SegmentTable

PREFIX_SHARED = "prefix_shared"

# A window is attended in query blocks of at least this many tokens: small masks, few calls.
_MIN_WINDOW_BLOCK = 256

# Features of other attention functions that would silently change the result here.
_UNSUPPORTED = {
    "softcap": "attention soft-capping",
    "s_aux": "attention sinks",
    "position_bias": "a position bias",
}


class UnsupportedModelError(ValueError):
    """The model cannot be scored in packed rows; the message says why and what to do."""


def prefix_shared_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    segment_table: SegmentTable | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention over a packed row, with transformers' attention signature.

    Args:
        module: the calling attention layer.
        query: Shape: (1, H, T, D).
        key: Shape: (1, G, T, D).
        value: Shape: (1, G, T, D).
        attention_mask: must be `None`.
        scaling: factor of the scores; `None` means 1 / sqrt(D).
        dropout: must be 0, because responses share the prompt.
        sliding_window: how many keys, itself included, a query sees; `None` means all.
        segment_table: boundaries of the row.
        **kwargs: what other attention functions take.

    Returns:
        Attention output and no weights. Shape: (1, T, H, D).

    Raises:
        UnsupportedModelError: the model asks for something a packed row cannot honour.
    """
    table = _checked_table(module, query, attention_mask, dropout, segment_table, kwargs)
    keys, values = key.split(table.pieces, dim=2), value.split(table.pieces, dim=2)
    queries = query.split([segment.query_length for segment in table.segments], dim=2)
    outputs = [
        _attend(part, _gather(keys, segment), _gather(values, segment), scaling, sliding_window)
        for part, segment in zip(queries, table.segments, strict=True)
    ]
    return torch.cat(outputs, dim=2).transpose(1, 2), None


def register() -> None:
    """Make `attn_implementation="prefix_shared"` known to transformers."""
    AttentionInterface.register(PREFIX_SHARED, prefix_shared_attention)


@contextmanager
def ordinary_attention(model: PreTrainedModel, implementation: str = "sdpa") -> Iterator[None]:
    """Let the model attend the way transformers does (padded rows, KV cache) inside the block."""
    before = model.config._attn_implementation
    model.set_attn_implementation(implementation)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


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


def _checked_table(
    module: torch.nn.Module,
    query: Tensor,
    attention_mask: Tensor | None,
    dropout: float,
    table: SegmentTable | None,
    kwargs: dict[str, Any],
) -> SegmentTable:
    layer = type(module).__name__
    if table is None:
        raise UnsupportedModelError(
            f"{layer} called prefix-shared attention without a segment table: either the model drops keywords on "
            "the way, or it was called directly; use `lit_longpo.engine.score` or `generation_mode`"
        )
    if attention_mask is not None:
        raise UnsupportedModelError(f"{layer} built its own attention mask, which a packed row cannot honour")
    if dropout:
        raise UnsupportedModelError(
            f"{layer} uses attention dropout {dropout}; responses share their prompt, set `attention_dropout: 0`"
        )
    for name, meaning in _UNSUPPORTED.items():
        if kwargs.get(name) is not None:
            raise UnsupportedModelError(f"{layer} uses {meaning} (`{name}`), which the sdpa backend lacks")
    if query.shape[0] != 1 or query.shape[2] != table.num_tokens:
        raise UnsupportedModelError(
            f"{layer}: expected one row of {table.num_tokens} tokens, got shape {tuple(query.shape)}"
        )
    return table
