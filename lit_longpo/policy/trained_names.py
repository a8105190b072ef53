"""Compares the names of trained weights with the model's before its weights are read, by building it on "meta".

The same names are compared again with the model that was loaded; what cannot be built without weights waits for that.
"""

from collections.abc import Iterator

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from lit_longpo.engine.layers import model_class
from lit_longpo.policy.adapters.lora import LoRA, add_adapters
from lit_longpo.policy.adapters.targets import ALL_LINEAR
from lit_longpo.policy.loading import PolicyConfig
from lit_longpo.policy.weights.freezing import names_with, trained_weights


def check_trained_names(policy: PolicyConfig) -> None:
    """Refuse names that match no weight of the model; builds nothing if no names are set.

    Raises:
        InputError: `lora.target_modules`, `lora.also_train`, `train_only` or `freeze` names what is not there, or
            nothing is left to train; or adapters cannot sit on what is named.
    """
    lora = policy.lora
    named = lora is not None and (lora.target_modules != ALL_LINEAR or bool(lora.also_train))
    if not (named or policy.train_only or policy.freeze) or policy.gguf_file is not None:
        return
    model = _shape(policy)
    if model is None:
        return
    if policy.train_only or policy.freeze:
        trained_weights(model, policy.train_only, policy.freeze)
    if lora is not None:
        _check_adapters(model, lora, new=not policy.continues_adapters)


def _shape(policy: PolicyConfig) -> PreTrainedModel | None:
    """The model on the meta device; `None` if its source ships a class of its own."""
    config = policy.original_config()
    if model_class(config) is None:
        return None
    vars(config).pop("quantization_config", None)
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model


def _check_adapters(model: PreTrainedModel, lora: LoRA, *, new: bool) -> None:
    if new:
        with torch.device("meta"):
            add_adapters(model, lora)
        return
    names = list(_names_under_adapters(model))
    for part in lora.also_train:
        names_with(names, part, "policy.lora.also_train")


def _names_under_adapters(model: nn.Module) -> Iterator[str]:
    """Names as peft makes them, of every weight with and without an adapter on it."""
    for name, _ in model.named_parameters(remove_duplicate=False):
        layer, _, last = name.rpartition(".")
        yield f"base_model.model.{name}"
        yield f"base_model.model.{layer}.base_layer.{last}"
