"""Flash attention as far as memory goes: what its kernels return, save and borrow, and no arithmetic.

A plan for GPUs is made where there is none, so the kernel itself cannot be traced. The sizes are those of
flash-attn 2 with variable lengths, by reading; torch's own variable-length attention calls the same kernels.
Sinks are folded around it by the engine's code. Soft-capped layers are traced as the engine's blocks, which
take a little more than flash-attn would, where it is installed.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from lit_longpo.batch import SegmentTable
from lit_longpo.engine.attention import checked_table
from lit_longpo.engine.backends.flash import VarlenKernel, VarlenPlan, flash_attention
from lit_longpo.engine.backends.sinks import KernelPair, folded_sinks
from lit_longpo.engine.backends.softcap import softcapped_attention

PLANNED_FLASH = "prefix_shared_sizes"  # transformers looks for a kernel behind names with "flash"


@torch.library.custom_op("lit_longpo::planned_flash_attn", mutates_args=())
def _flash_sizes(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """The output, and a log-sum-exp per query and head. Shapes: query (T, H, D), key and value (K, G, D)."""
    raise NotImplementedError("expected tensors without values (a plan), got real ones; use `prefix_shared`")


@_flash_sizes.register_fake
def _(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(query), query.new_empty(query.shape[1], query.shape[0], dtype=torch.float32)


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs, *output)


def _backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
    query, key, value, _, log_sums = ctx.saved_tensors
    return _gradients(query, key, value, log_sums)


def _gradients(query: Tensor, key: Tensor, value: Tensor, log_sums: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Query gradients are summed in fp32; key and value gradients exist for every query head at first."""
    per_head = [tensor.new_empty(tensor.shape[0], *query.shape[1:]) for tensor in (key, value)]
    borrowed = [torch.empty_like(query, dtype=torch.float32), torch.empty_like(log_sums), *per_head]
    gradients = (torch.empty_like(query), torch.empty_like(key), torch.empty_like(value))
    del borrowed
    return gradients


_flash_sizes.register_autograd(_backward, setup_context=_save)


def _planned(
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
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The engine's flash path with the kernel left out, refusals included; transformers' attention signature."""
    table = checked_table(module, query, attention_mask, dropout, segment_table, kwargs)
    if softcap is not None:
        return softcapped_attention(query, key, value, table, scaling, sliding_window, softcap), None
    extra = {} if s_aux is None else {"sinks": s_aux}
    kernel = VarlenKernel("planned", _call)
    return flash_attention(query, key, value, table, scaling, sliding_window, kernel, **extra), None


def _call(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    plan: VarlenPlan,
    scaling: float | None,
    reach: tuple[int, int],
    sinks: Tensor | None = None,
) -> Tensor:
    return _flash_sizes(query, key, value)[0] if sinks is None else folded_sinks(query, key, value, sinks, _PAIR)


def _pair_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, log_sums: Tensor, rest: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    return _gradients(query, key, value, log_sums)


_PAIR = KernelPair(lambda query, key, value: (*_flash_sizes(query, key, value), ()), _pair_backward)


def register() -> None:
    """Make `PLANNED_FLASH` known to transformers."""
    AttentionInterface.register(PLANNED_FLASH, _planned)
