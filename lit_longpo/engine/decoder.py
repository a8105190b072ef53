"""Parts of a causal language model by role, whatever its architecture calls them."""

import inspect
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lit_longpo.errors import InputTypeError


def base_model(model: nn.Module) -> PreTrainedModel:
    """The transformers model inside an optional PEFT wrapper.

    Raises:
        InputTypeError: there is none.
    """
    if isinstance(model, PreTrainedModel):
        return model
    from peft import PeftModel  # plain models do without

    base = model.get_base_model() if isinstance(model, PeftModel) else model
    if not isinstance(base, PreTrainedModel):
        raise InputTypeError(f"expected a transformers causal language model, got {type(model).__name__}")
    return base


def decoder_of(model: PreTrainedModel) -> PreTrainedModel:
    """Everything below the head: token ids in, last hidden states out.

    Raises:
        InputTypeError: the model has several such parts, or none.
    """
    found = model.get_decoder()
    if found is not model and isinstance(found, PreTrainedModel):
        return found
    # Llama-4 and its like name themselves, their prefix is that of another class; ModernBERT's decoder names its head.
    inner = [child for child in model.children() if isinstance(child, PreTrainedModel)]
    if len(inner) != 1:
        raise InputTypeError(f"expected one model below the head of {type(model).__name__}, got {len(inner)}")
    return inner[0]


def decoder_layers(decoder: nn.Module) -> nn.ModuleList:
    """A decoder's layers, the longest of its lists (`layers`, `h`, `blocks`, ...).

    Raises:
        InputTypeError: it has no list of modules.
    """
    lists = [child for child in decoder.children() if isinstance(child, nn.ModuleList)]
    if not lists:
        raise InputTypeError(f"expected a list of layers in {type(decoder).__name__}, got none")
    return max(lists, key=len)


def accepted(decoder: nn.Module, **keywords: Any) -> dict[str, Any]:
    """The given keywords for which a decoder's forward has a parameter; Mamba's, for example, takes no positions."""
    parameters = inspect.signature(decoder.forward).parameters
    return {name: value for name, value in keywords.items() if name in parameters}


def accepted_by(model: PreTrainedModel, **keywords: Any) -> dict[str, Any]:
    """The given keywords that a whole model takes, itself or on the way to its decoder."""
    known = accepted(model, **keywords)
    return {**accepted(decoder_of(model), **keywords), **known} if passes_keywords_on(model) else known


def passes_keywords_on(decoder: nn.Module) -> bool:
    """Whether a decoder's forward takes keywords that it does not know itself."""
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(decoder.forward).parameters.values())


def whole_shape(parameter: Tensor) -> torch.Size:
    """Shape of the whole parameter, of which ZeRO-3 leaves an empty vector on each rank."""
    return cast(torch.Size, getattr(parameter, "ds_shape", parameter.shape))
