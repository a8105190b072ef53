"""Prefix-shared attention: every segment of a packed row sees its own pieces and nothing else.

Registered with transformers under one name per backend, so that each model keeps the one it was loaded with.
Those names have no mask function, so transformers builds no mask and does not guess boundaries from position
ids: the segment table that travels as a keyword of `model.forward` is the only source of boundaries. Two
backends read the same table: `sdpa.py` runs everywhere, `flash.py` on GPUs in half precision. Where ranks
share the row, each comes with its tokens and attends with its heads (`sequence_parallel.py`).

Shape legend: H query heads, G key/value heads, D head size, T row (this rank's tokens, if ranks share it),
Q queries and K keys of a segment.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

from lit_longpo.batch import SegmentTable
from lit_longpo.engine.flash import VarlenKernel, find_kernel, flash_attention
from lit_longpo.engine.sdpa import sdpa_attention
from lit_longpo.engine.sequence_parallel import sequence_ranks
from lit_longpo.errors import InputError

PREFIX_SHARED = "prefix_shared"
Backend = Literal["auto", "sdpa", "flash"]
# The `attn_implementation` of each backend; behind names with "flash" or "sdpa" transformers looks for its own kernels.
ATTENTION_NAMES: dict[Backend, str] = {
    "auto": PREFIX_SHARED,
    "sdpa": f"{PREFIX_SHARED}_segments",
    "flash": f"{PREFIX_SHARED}_varlen",
}

log = logging.getLogger(__name__)

# Features of other attention functions that would silently change the result here.
_UNSUPPORTED = {
    "softcap": "attention soft-capping",
    "s_aux": "attention sinks",
    "position_bias": "a position bias",
}


class UnsupportedModelError(InputError):
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
    backend: Backend = "auto",
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
        backend: "sdpa"; "flash", which needs a GPU and half precision; or "auto", flash where it runs.
        **kwargs: what other attention functions take.

    Returns:
        Attention output and no weights. Shape: (1, T, H, D).

    Raises:
        UnsupportedModelError: the model asks for something a packed row cannot honour.
    """
    table = _checked_table(module, query, attention_mask, dropout, segment_table, kwargs)
    ranks, kernel = sequence_ranks(), _varlen_kernel(query, backend)
    query, key, value = (ranks.to_heads(tensor) for tensor in (query, key, value))
    if kernel is None:
        output = sdpa_attention(query, key, value, table, scaling, sliding_window)
    else:
        output = flash_attention(query, key, value, table, scaling, sliding_window, kernel)
    return ranks.to_tokens(output), None


def shares_prefixes(model: PreTrainedModel) -> bool:
    """Whether the model attends through one of our names."""
    return str(model.config._attn_implementation).startswith(PREFIX_SHARED)


def _varlen_kernel(query: Tensor, backend: Backend) -> VarlenKernel | None:
    """The flash kernel for these tensors; `None` for sdpa.

    Raises:
        UnsupportedModelError: "flash" was asked for and does not run here.
    """
    kernel = None if backend == "sdpa" else find_kernel(query.device.type, query.dtype)
    if kernel is None and backend == "flash":
        raise UnsupportedModelError(
            f"expected a GPU with bf16 or fp16 weights and flash-attn (or a torch whose varlen attention has windows) "
            f"for `policy.attention: flash`, got {query.device.type} and {query.dtype}; set `policy.attention: auto`"
        )
    _say_once("sdpa" if kernel is None else kernel.name)
    return kernel


@lru_cache
def _say_once(name: str) -> None:
    log.info("attention backend: %s", name)


def register() -> None:
    """Make `ATTENTION_NAMES` known to transformers."""
    for backend, name in ATTENTION_NAMES.items():
        AttentionInterface.register(name, partial(prefix_shared_attention, backend=backend))


@contextmanager
def ordinary_attention(model: PreTrainedModel, implementation: str = "sdpa") -> Iterator[None]:
    """Let the model attend the way transformers does (padded rows, KV cache) inside the block."""
    before = model.config._attn_implementation
    model.set_attn_implementation(implementation)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


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
            raise UnsupportedModelError(f"{layer} uses {meaning} (`{name}`), which our backends lack")
    num_tokens = table.num_tokens // sequence_ranks().size
    if query.shape[0] != 1 or query.shape[2] != num_tokens:
        raise UnsupportedModelError(f"{layer}: expected one row of {num_tokens} tokens, got shape {tuple(query.shape)}")
    return table
