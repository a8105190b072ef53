"""What a model in half precision keeps in fp32, because rounded it means something else.

transformers loads some tensors in fp32 whatever `dtype` says: rotary frequencies, of which a rounded one is wrong by
whole turns at long positions, or the biases that choose experts, which lie so close together that in bf16 most are
equal (DeepSeek-V3, GLM). Lightning's `bf16-true` and DeepSpeed's bf16 cast all of them.
"""

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from lit_longpo.engine import base_model

_HALVES = (torch.bfloat16, torch.float16)


class FullPrecision:
    """Remembers such tensors, and puts them back after a strategy has converted the model."""

    def __init__(self, model: nn.Module) -> None:
        self._buffers = {name: buffer for name, buffer in model.named_buffers() if _is_full(buffer)}
        self._frozen = {name: p.data for name, p in kept_parameters(model) if not p.requires_grad}

    def restore(self, model: nn.Module) -> None:
        """Undo what casting has done to buffers and frozen parameters."""
        for name, kept in self._buffers.items():
            place, _, own = name.rpartition(".")
            buffers = model.get_submodule(place)._buffers
            if (buffer := buffers[own]) is not None and _is_rounded(buffer, kept):
                buffers[own] = kept.to(buffer.device)
        for name, kept in self._frozen.items():
            parameter = model.get_parameter(name)
            if _is_rounded(parameter, kept):
                parameter.data = kept.to(parameter.device)


def kept_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters in fp32 of a model whose embeddings are not; adapters are another matter, and fp32 by intent."""
    if cast(nn.Embedding, base_model(model).get_input_embeddings()).weight.dtype.itemsize >= 4:
        return
    for name, parameter in model.named_parameters():
        if _is_full(parameter) and ".lora_" not in name:
            yield name, parameter


def _is_rounded(tensor: Tensor, kept: Tensor) -> bool:
    """Whether a tensor holds what half precision leaves of another; DeepSpeed has made it fp32 again by then."""
    kept = kept.to(tensor.device)
    return tensor is not kept and any(torch.equal(tensor.to(half), kept.to(half)) for half in _HALVES)


def _is_full(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.dtype.itemsize >= 4
