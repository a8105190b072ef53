"""Products of routed experts as far as memory goes: inputs kept, one output, gradients that somebody needs.

torch knows the shapes of its grouped product for bf16 only, and transformers' own form reads how many tokens every
expert got; both say what a trace needs only for some precisions and versions.
"""

from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from transformers.integrations import moe


class _GroupedProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tokens: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
        ctx.save_for_backward(tokens, weight, ends)
        return tokens.new_empty(tokens.shape[0], weight.shape[2])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        tokens, weight, _ = ctx.saved_tensors
        pairs = zip((tokens, weight), ctx.needs_input_grad, strict=False)
        return *(torch.empty_like(tensor) if needed else None for tensor, needed in pairs), None


def _grouped_mm(input: Tensor, weight: Tensor, offs: Tensor) -> Tensor:
    """Shapes: input (S, in), sorted by expert; weight (E, in, out); offs (E,), where each expert's tokens end."""
    return _GroupedProduct.apply(input.to(weight.dtype), weight, offs)


def planned_products() -> AbstractContextManager[object]:
    """Inside the block, forward and backward, routed experts call the stand-in."""
    return patch.object(moe, "_grouped_mm", _grouped_mm)
