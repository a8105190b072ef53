"""Prefix-shared attention: every segment of a packed row sees its own pieces and nothing else.

Registered with transformers under one name per backend, so that each model keeps the one it was loaded with.
Those names have no mask function, so transformers builds no mask and does not guess boundaries from position
ids: the segment table that travels as a keyword of `model.forward` is the only source of boundaries. Two
backends read the same table, in `backends/`: `sdpa.py` runs everywhere, `flash.py` on GPUs in half precision.
Both know sinks (gpt-oss, `sinks.py`); scores are soft-capped (Gemma-2) by flash-attn or by `softcap.py`. A flash
kernel serves these only if its gradients are right where it runs (`gradient_check.py`). Where ranks share the row,
each comes with its tokens and attends with its heads (`sequence_parallel.py`), some at a time (`head_chunks.py`).

Shape legend: H query heads, G key/value heads, D head size, T row (this rank's tokens, if ranks share it),
Q queries and K keys of a segment.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor
from transformers import AttentionInterface, PretrainedConfig, PreTrainedModel

from lit_longpo.batch import SegmentTable
from lit_longpo.engine.backends.flash import Extra, VarlenKernel, find_kernel, flash_attention
from lit_longpo.engine.backends.gradient_check import gradient_error
from lit_longpo.engine.backends.sdpa import sdpa_attention, without_plans
from lit_longpo.engine.backends.softcap import softcapped_attention
from lit_longpo.engine.ulysses.head_chunks import attend_in_chunks
from lit_longpo.engine.ulysses.sequence_parallel import sequence_ranks
from lit_longpo.errors import InputError
from lit_longpo.log_once import log_once

PREFIX_SHARED = "prefix_shared"
Backend = Literal["auto", "sdpa", "flash"]
# The `attn_implementation` of each backend; behind names with "flash" or "sdpa" transformers looks for its own kernels.
ATTENTION_NAMES: dict[Backend, str] = {
    "auto": PREFIX_SHARED,
    "sdpa": f"{PREFIX_SHARED}_segments",
    "flash": f"{PREFIX_SHARED}_varlen",
}

# What attends where no flash kernel does.
_PORTABLE: dict[Extra | None, tuple[str, Callable[..., Tensor]]] = {
    None: ("sdpa", sdpa_attention),
    "sinks": ("sdpa, a key for each sink", sdpa_attention),
    "softcap": ("blocks of soft-capped scores", softcapped_attention),
}

log = logging.getLogger(__name__)


class UnsupportedModelError(InputError):
    """The model cannot be scored in packed rows; the message says why and what to do."""


class MissingTableError(UnsupportedModelError):
    """Attention was called without a segment table.

    Args:
        layer: class of the calling layer.
    """

    def __init__(self, layer: str) -> None:
        super().__init__(
            f"{layer} called prefix-shared attention without a segment table: either the model drops keywords on "
            "the way, or it was called directly; use `lit_longpo.engine.score` or `generation_mode`"
        )
        self.in_a_packed_row = f"its code does not let {layer} know where one response ends and the next begins"


class MissingKernelError(UnsupportedModelError):
    """The attention backend that was asked for does not run here; no other is tried, as it was not asked for."""


def prefix_shared_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
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
        softcap: bound of the scaled scores, x -> softcap * tanh(x / softcap); `None` means none.
        s_aux: score of every head's sink; `None` means none. Shape: (H,).
        segment_table: boundaries of the row.
        backend: "sdpa"; "flash", which needs a GPU and half precision; or "auto", flash where it runs.
        **kwargs: what other attention functions take.

    Returns:
        Attention output and no weights. Shape: (1, T, H, D).

    Raises:
        UnsupportedModelError: the model asks for something a packed row cannot honour.
    """
    table = checked_table(module, query, attention_mask, dropout, segment_table, kwargs)
    ranks = sequence_ranks()
    extra = _extra(module, softcap, None if s_aux is None else ranks.own_heads(s_aux))

    def attend(query: Tensor, key: Tensor, value: Tensor, extra: dict[Extra, Any]) -> Tensor:
        return _attend(backend, query, key, value, table, scaling, sliding_window, extra)

    output = attend_in_chunks(ranks, query, key, value, extra, attend)
    return output.contiguous(), None  # as transformers' own: some models take a view of it


def _attend(
    backend: Backend,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    table: SegmentTable,
    scaling: float | None,
    window: int | None,
    extra: dict[Extra, Any],
) -> Tensor:
    """Attention of these heads by the first backend that can compute it correctly. Shape: (1, T, H, D)."""
    name = next(iter(extra), None)
    word, portable = _PORTABLE[name]
    kernel = _varlen_kernel(query, backend, name)
    # All but a plain kernel without another behind it have to show here, once, that their gradients are right.
    heads = (query.shape[1], key.shape[1], query.shape[3], value.shape[3])
    asked = (query.device, query.dtype, heads, scaling, window, name, extra.get("softcap"))
    while kernel is not None and (name is not None or kernel.otherwise is not None):
        if not _is_off(kernel, gradient_error(kernel, portable, *asked), backend, word):
            break
        kernel = kernel.otherwise
    log_once(log.info, "attention backend: %s", word if kernel is None else kernel.name)
    if kernel is None:
        return portable(query, key, value, table, scaling, window, **extra)
    return flash_attention(query, key, value, table, scaling, window, kernel, **extra)


def shares_prefixes(model: PreTrainedModel) -> bool:
    """Whether the model uses one of the prefix-shared attentions (`ATTENTION_NAMES`)."""
    return str(model.config._attn_implementation).startswith(PREFIX_SHARED)


def _extra(module: torch.nn.Module, softcap: float | None, sinks: Tensor | None) -> dict[Extra, Any]:
    """What the layer's attention has beyond the plain one, by name.

    Raises:
        UnsupportedModelError: it has both; models do not agree on whether a sink is capped.
    """
    if softcap is not None and sinks is not None:
        raise UnsupportedModelError(f"{type(module).__name__} has sinks and a soft-cap; we serve one at a time")
    if softcap is not None:
        return {"softcap": softcap}
    return {} if sinks is None else {"sinks": sinks}


def _varlen_kernel(query: Tensor, backend: Backend, extra: Extra | None) -> VarlenKernel | None:
    """The flash kernel for these tensors; `None` for sdpa.

    Raises:
        MissingKernelError: "flash" was asked for and does not run here.
    """
    kernel = None if backend == "sdpa" else find_kernel(query.device.type, query.dtype, extra)
    if kernel is None and backend == "flash":
        needed = "flash-attn" if extra == "softcap" else "flash-attn (or a torch whose varlen attention has windows)"
        raise MissingKernelError(
            f"expected a GPU with bf16 or fp16 weights and {needed} for `policy.attention: flash`, got "
            f"{query.device.type} and {query.dtype}; set `policy.attention: auto`"
        )
    return kernel


def _is_off(kernel: VarlenKernel, error: str | None, backend: Backend, instead: str) -> bool:
    """Whether a kernel's gradients are wrong; warns once.

    Raises:
        MissingKernelError: they are wrong, "flash" was asked for, and there is no other flash kernel.
    """
    if error is None:
        return False
    instead = instead if kernel.otherwise is None else kernel.otherwise.name
    if backend == "flash" and kernel.otherwise is None:
        raise MissingKernelError(
            f"expected a kernel whose gradients are right for `policy.attention: flash`, got {kernel.name}, which is "
            f"off by {error} on this device; set `policy.attention: auto`"
        )
    told = f"attention: the gradients of {kernel.name} are off by {error} on this device; taken instead: {instead}"
    log_once(log.warning, told)
    return True


def register() -> None:
    """Make `ATTENTION_NAMES` known to transformers."""
    for backend, name in ATTENTION_NAMES.items():
        AttentionInterface.register(name, partial(prefix_shared_attention, backend=backend))


def exact_attention(model: PreTrainedModel | type[PreTrainedModel], config: PretrainedConfig | None = None) -> str:
    """The transformers attention that computes the model exactly: "sdpa" if the model has it, else "eager".

    With a soft-cap it is "eager", too: transformers' "sdpa" knows none, and Gemma 3 takes it all the same.

    Args:
        model: the model or its class.
        config: its configuration; `None` means the model's own.
    """
    text = (config or cast(PreTrainedModel, model).config).get_text_config()
    capped = getattr(text, "attn_logit_softcapping", None)
    return "sdpa" if getattr(model, "_supports_sdpa", False) and not capped else "eager"


@contextmanager
def ordinary_attention(model: PreTrainedModel, implementation: str | None = None) -> Iterator[None]:
    """Let the model attend the way transformers does (padded rows, KV cache) inside the block.

    Args:
        model: a causal language model.
        implementation: one of transformers' names; `None` is `exact_attention`, or what the model has if it is none of
            ours.
    """
    before = model.config._attn_implementation
    implementation = implementation or (exact_attention(model) if shares_prefixes(model) else before)
    model.set_attn_implementation(implementation)
    try:
        with without_plans(model.device):  # a cache grows with every token
            yield
    finally:
        model.set_attn_implementation(before)


def checked_table(
    module: torch.nn.Module,
    query: Tensor,
    attention_mask: Tensor | None,
    dropout: float,
    table: SegmentTable | None,
    kwargs: dict[str, Any],
) -> SegmentTable:
    """The segment table of an attention call, once everything else it asks for is known to fit a packed row.

    Args:
        module: the calling attention layer.
        query: Shape: (1, H, T, D).
        attention_mask: must be `None`.
        dropout: must be 0.
        table: of the row; `None` if the call has none.
        kwargs: what else transformers passes.

    Raises:
        UnsupportedModelError: there is no table, or the call asks for what a packed row cannot have.
    """
    layer = type(module).__name__
    if table is None:
        raise MissingTableError(layer)
    if attention_mask is not None:
        raise UnsupportedModelError(f"{layer} built its own attention mask, which a packed row cannot honour")
    if dropout:
        raise UnsupportedModelError(
            f"{layer} uses attention dropout {dropout}; responses share their prompt, set `attention_dropout: 0`"
        )
    if kwargs.get("position_bias") is not None:
        raise UnsupportedModelError(f"{layer} uses a position bias (`position_bias`), which our backends lack")
    num_tokens = table.num_tokens // sequence_ranks().size
    if query.shape[0] != 1 or query.shape[2] != num_tokens:
        raise UnsupportedModelError(f"{layer}: expected one row of {num_tokens} tokens, got shape {tuple(query.shape)}")
    return table
