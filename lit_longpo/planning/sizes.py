"""Sizes of the planned model's parameters, counted on the meta device: nothing is allocated."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lit_longpo.engine import base_model
from lit_longpo.engine.decoder import decoder_layers, decoder_of
from lit_longpo.engine.layers import experts_per_token
from lit_longpo.engine.routers import routers
from lit_longpo.planning.tracing.model import ModelPlan
from lit_longpo.policy import Quantization


class TrainedTensor(NamedTuple):
    """What an optimizer's states go by.

    Args:
        embedding: whether its states are never quantised.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    embedding: bool

    @property
    def numel(self) -> int:
        """Numbers that the tensor holds."""
        return prod(self.shape)


@dataclass(frozen=True)
class ModelSizes:
    """Parameters of the whole model.

    Args:
        trained: number of trained ones, by dtype.
        largest_layer_bytes: of the largest decoder layer.
        outside_bytes: of what is in no decoder layer: embeddings, final norm, untied head.
        untied_head_bytes: the head's gradient if it is trained and not the embeddings' as well.
        frozen_linear: weights of the layers' linear maps that stay as they are; of routed experts, those that one
            token meets.
        trained_linear: of those that are trained, adapters included.
        dequantized_bytes: of the largest 4-bit weight while its product is computed; 0 if there are none.
        trained_tensors: how many there are of each kind.
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
    dequantized_bytes: int = 0
    trained_tensors: Counter[TrainedTensor] = field(default_factory=Counter)

    @property
    def num_trained(self) -> int:
        """Number of trained parameters."""
        return sum(self.trained.values())

    @property
    def trained_bytes(self) -> int:
        """Bytes of the trained parameters, and so of all gradients."""
        return sum(number * dtype.itemsize for dtype, number in self.trained.items())


def count(plan: ModelPlan) -> ModelSizes:
    """Sizes of the planned policy; nothing is allocated."""
    model = plan.build()
    base = base_model(model)
    layers: list[nn.Module] = list(decoder_layers(decoder_of(base)))
    head = base.get_output_embeddings().weight
    tied = head is base.get_input_embeddings().weight
    parameters = list(model.parameters())
    in_layers = [_bytes(layer.parameters()) for layer in layers]
    linear = [module.weight for layer in layers for module in layer.modules() if isinstance(module, nn.Linear)]
    met = _met_by_a_token(base, layers)
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    trained = Counter[torch.dtype]()
    for parameter in parameters:
        trained[parameter.dtype] += parameter.numel() * parameter.requires_grad
    return ModelSizes(
        total=sum(parameter.numel() for parameter in parameters),
        total_bytes=_bytes(parameters),
        trained=+trained,
        largest_layer_bytes=max(in_layers),
        outside_bytes=_bytes(parameters) - sum(in_layers),
        untied_head_bytes=_bytes([head]) if head.requires_grad and not tied else 0,
        frozen_linear=sum(number for number, trained in met if not trained),
        trained_linear=sum(number for number, trained in met if trained),
        head_weights=head.numel(),
        head_trained=head.requires_grad,
        dequantized_bytes=max((weight.nbytes for weight in linear if _quantization(weight)), default=0),
        trained_tensors=Counter(
            TrainedTensor(parameter.dtype, tuple(parameter.shape), id(parameter) in embeddings)
            for parameter in parameters
            if parameter.requires_grad
        ),
    )


def _met_by_a_token(model: PreTrainedModel, layers: list[nn.Module]) -> list[tuple[int, bool]]:
    """Sizes of the weights that one token is multiplied by, and whether they are trained."""
    chosen = experts_per_token(model.config.get_text_config())
    found, choosing = list[tuple[int, bool]](), set(map(id, routers(model)))
    for module in (module for layer in layers for module in layer.modules()):
        weight = getattr(module, "weight", None)  # some routers hold a linear map of their own instead (Hunyuan)
        if isinstance(weight, nn.Parameter) and (isinstance(module, nn.Linear) or id(module) in choosing):
            found.append((weight.numel(), weight.requires_grad))
        elif not isinstance(module, nn.Conv1d):  # all experts of a layer are one tensor, (E, in, out) or (E, out, in)
            experts = [parameter for parameter in module.parameters(recurse=False) if parameter.ndim == 3]
            found += [(chosen * part[0].numel(), part.requires_grad) for part in experts]
    return found


def _bytes(parameters: Iterable[Tensor]) -> int:
    return round(sum(parameter.numel() * _bytes_each(parameter) for parameter in parameters))


def _bytes_each(parameter: Tensor) -> float:
    quantization = _quantization(parameter)
    return parameter.dtype.itemsize if quantization is None else quantization.bytes_per_weight


def _quantization(parameter: Tensor) -> Quantization | None:
    return getattr(parameter, "quantized_as", None)
