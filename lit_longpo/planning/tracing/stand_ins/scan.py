"""Scans of layers with state, as a fused kernel (fla, mamba_ssm) would take memory: inputs kept, one output.

transformers' own form in torch walks along a row in Python and keeps many times as much; traced at tens of thousands
of tokens it would take minutes.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from lit_longpo.engine.states import mixers


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, like: Tensor, *kept: Tensor) -> Tensor:
        ctx.save_for_backward(*kept)
        return torch.empty_like(like)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return None, *(torch.empty_like(tensor) for tensor in ctx.saved_tensors)


def _delta_rule(query: Tensor, key: Tensor, value: Tensor, g: Tensor, beta: Tensor, **options: Any) -> Any:
    return _Scan.apply(value.detach(), query, key, value, g, beta), None


def _state_space(hidden: Tensor, dt: Tensor, decay: Tensor, inputs: Tensor, outputs: Tensor, **options: Any) -> Any:
    return _Scan.apply(hidden.detach(), hidden, dt, decay, inputs, outputs)


_STAND_INS: dict[str, Callable[..., Any]] = {
    "torch_chunk_gated_delta_rule": _delta_rule,
    "mamba2_chunk_scan": _state_space,
}


@contextmanager
def planned_scans(model: nn.Module) -> Iterator[None]:
    """Inside the block, forward and backward, the model's layers call the stand-ins."""
    codes = {sys.modules[type(mixer).__module__] for mixer in mixers(model)}
    with ExitStack() as stack:
        for code in codes:
            for name in _STAND_INS.keys() & vars(code).keys():
                stack.enter_context(patch.object(code, name, _STAND_INS[name]))
        yield
