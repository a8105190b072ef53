"""Sizes of a policy's parameters, counted on the meta device, and of its optimizer's states."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from lit_longpo.engine import base_model
from lit_longpo.planning.live_bytes import LiveBytes
from lit_longpo.planning.tracing import ModelPlan

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Any]
_PROBE = 2**20  # elements of the parameter that an optimizer is tried on


@dataclass(frozen=True)
class Sizes:
    """Parameters of the whole model.

    Args:
        total: their number.
        total_bytes: their bytes.
        trained: number of trained ones, by dtype.
        largest_layer_bytes: of the largest decoder layer.
        outside_bytes: of what is in no decoder layer: embeddings, final norm, untied head.
        untied_head_bytes: the head's gradient if it is trained and not the embeddings' as well.
        frozen_linear: weights of the layers' linear maps that stay as they are.
        trained_linear: of those that are trained, adapters included.
        head_weights: the head's weights.
        head_trained: whether the head is.
    """

    total: int
    total_bytes: int
    trained: Counter[torch.dtype]
    largest_layer_bytes: int
    outside_bytes: int
    untied_head_bytes: int
    frozen_linear: int
    trained_linear: int
    head_weights: int
    head_trained: bool

    @property
    def num_trained(self) -> int:
        """Number of trained parameters."""
        return sum(self.trained.values())

    @property
    def trained_bytes(self) -> int:
        """Bytes of the trained parameters, and so of all gradients."""
        return sum(number * dtype.itemsize for dtype, number in self.trained.items())


def count(plan: ModelPlan) -> Sizes:
    """Sizes of the planned policy; nothing is allocated."""
    model = plan.build()
    base = base_model(model)
    layers: list[nn.Module] = list(base.get_decoder().layers)
    head = base.get_output_embeddings().weight
    tied = head is base.get_input_embeddings().weight
    parameters = list(model.parameters())
    in_layers = [_bytes(layer.parameters()) for layer in layers]
    linear = [module.weight for layer in layers for module in layer.modules() if isinstance(module, nn.Linear)]
    trained = Counter[torch.dtype]()
    for parameter in parameters:
        trained[parameter.dtype] += parameter.numel() * parameter.requires_grad
    return Sizes(
        total=sum(parameter.numel() for parameter in parameters),
        total_bytes=_bytes(parameters),
        trained=+trained,
        largest_layer_bytes=max(in_layers),
        outside_bytes=_bytes(parameters) - sum(in_layers),
        untied_head_bytes=_bytes([head]) if head.requires_grad and not tied else 0,
        frozen_linear=sum(weight.numel() for weight in linear if not weight.requires_grad),
        trained_linear=sum(weight.numel() for weight in linear if weight.requires_grad),
        head_weights=head.numel(),
        head_trained=head.requires_grad,
    )


@dataclass(frozen=True)
class OptimizerBytes:
    """What an optimizer takes for each parameter.

    Args:
        states: kept between steps.
        borrowed: peak inside a step.
    """

    states: float
    borrowed: float


def optimizer_bytes(make: OptimizerFactory, dtype: torch.dtype) -> OptimizerBytes:
    """Bytes per parameter, from one step on a fake parameter (so exact for element-wise optimizers only)."""
    with FakeTensorMode():
        parameter = nn.Parameter(torch.empty(_PROBE, dtype=dtype))
        parameter.grad = torch.empty_like(parameter)
        with LiveBytes() as memory:
            optimizer = make([parameter])
            for tensor in (parameter, parameter.grad):
                memory.add(tensor)
            start = memory.live
            optimizer.step()
            states = memory.live - start
            memory.restart()
            optimizer.step()
            return OptimizerBytes(states / _PROBE, (memory.peak - start - states) / _PROBE)


def _bytes(parameters: Iterable[Tensor]) -> int:
    return sum(parameter.numel() * parameter.dtype.itemsize for parameter in parameters)
