"""The tensors of adapters, in peft's files and in a model, by name."""

import re
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from peft import PeftModel

_MAGNITUDE = ".lora_magnitude_vector"  # DoRA's, a tensor in files and a module in models


def adapted_layers(model: nn.Module) -> dict[str, Any]:
    """Layers with low-rank matrices on them, by name."""
    return {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}


def adapter_state(model: "PeftModel") -> dict[str, Tensor]:
    """Tensors of a model's adapters by the names that peft stores them under."""
    from peft import get_peft_model_state_dict

    return cast("dict[str, Tensor]", get_peft_model_state_dict(model, save_embedding_layers=False))


def set_weights(model: "PeftModel", weights: dict[str, Tensor]) -> None:
    """Give a model's adapters their values.

    peft takes every name for one of the files that its base was published in, and gives it the model's own: a name that
    is the model's own already may become one that nothing has, and its adapter stays as it was drawn, without an error
    (peft#3262; Laguna's shared experts, Inkling 2's convolutions).

    Args:
        model: its names are those of the adapters.
        weights: as peft stores them, by the model's own names.
    """
    from peft import set_peft_model_state_dict

    set_peft_model_state_dict(model, weights)  # also what is saved beside matrices
    own = {_stored_name(name): name for name in model.state_dict() if ".lora_" in name}
    known = {own[name]: weight for name, weight in weights.items() if name in own}
    model.load_state_dict(known, strict=False)


def _stored_name(name: str) -> str:
    """What peft calls a tensor of the one adapter in its files."""
    return re.sub(r"(\.lora_\w+)\.default", r"\1", name).replace(".lora_magnitude_vector.weight", _MAGNITUDE)


def lost_by_peft(model: "PeftModel") -> list[str]:
    """Names of stored adapters that peft alone does not read: it gives them names that the model has not.

    Args:
        model: whose adapters are stored.
    """
    from peft.utils.transformers_weight_conversion import convert_peft_adapter_state_dict_for_transformers

    state = adapter_state(model)
    shapes = {name: torch.empty(weight.shape, device="meta") for name, weight in state.items()}
    [config] = model.peft_config.values()
    read = convert_peft_adapter_state_dict_for_transformers(cast(nn.Module, model), config, shapes)
    return sorted(state.keys() - read.keys())
