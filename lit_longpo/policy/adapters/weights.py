"""The tensors of adapters, in peft's files and in a model, by name."""

import logging
import re
from collections.abc import Mapping, Set
from typing import TYPE_CHECKING, Any, cast

import torch
from packaging.version import Version
from torch import Tensor, nn

from lit_longpo.errors import InputError
from lit_longpo.policy.adapters.config import version_of

if TYPE_CHECKING:
    from peft import PeftModel

log = logging.getLogger(__name__)

_TURNED = Version("0.19")  # from which on peft takes the sides of stacked experts the other way round
_PEFTS = "rank_major"  # what Unsloth calls the order of ranks and experts in peft's files
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

    peft takes every name for one of the base's published files, and turns it into the model's own. Where it is the
    model's own already, the turned name may be one that nothing has: that adapter stays as it was drawn, without an
    error (peft#3262; Laguna's shared experts, Inkling 2's convolutions). So the model's own names are set once more.
    """
    from peft import set_peft_model_state_dict

    set_peft_model_state_dict(model, weights)  # also what is saved beside matrices
    own = {_stored_name(name): name for name in model.state_dict() if ".lora_" in name}
    known = {own[name]: weight for name, weight in weights.items() if name in own}
    model.load_state_dict(known, strict=False)


def warn_of_zeros(weights: Mapping[str, Tensor], where: str) -> None:
    """Warn of adapters that change nothing: never trained, or split over ranks while they were saved (peft#1402)."""
    last = [tensor for name, tensor in weights.items() if re.search(r"\.lora_(embedding_)?B\b", name)]
    if last and not any(tensor.any() for tensor in last):
        log.warning(
            "the adapters at %s change nothing, as all their `lora_B` are zero: they were never trained, or saved "
            "while ranks had split them",
            where,
        )


def is_second_name(name: str, weights: Mapping[str, Tensor], known: Set[str]) -> bool:
    """Whether peft has stored a tensor under two names, as it does with what it trains whole in a resized vocabulary.

    Args:
        name: one that no tensor of the model has.
        weights: all that are stored.
        known: names of the model's tensors; one of them has to be the other name, or nothing would read it.
    """
    whole, tensor = ".modules_to_save." in name or ".token_adapter." in name, weights[name]
    others = (other for each, other in weights.items() if each in known and other.shape == tensor.shape)
    return whole and any(torch.equal(other, tensor) for other in others)


def refuse_other_experts(model: "PeftModel", settings: Mapping[str, Any], where: str) -> None:
    """Refuse adapters of stacked experts (`target_parameters`) that today's peft would read as other matrices.

    peft before 0.19 read such a tensor as [experts, in, out], which gpt-oss means and most models do not. Where both
    sides are equally long, its files fit, and are other adapters (Automodel#3592). Unsloth trained with ranks and
    experts of B in the other order, which fits always; since it reads them as peft does, its files say so
    (unsloth-zoo#1232, #1269).
    """
    from peft.tuners.lora.layer import ParamWrapper

    stacked = [one for one in model.modules() if isinstance(one, ParamWrapper) and one.num_experts > 1]
    if not stacked or not settings.get("target_parameters"):
        return
    as_before = all(getattr(one.get_base_layer(), "is_transposed", False) for one in stacked)
    for problem in (None if as_before else _sides(settings), _order(settings)):
        if problem is not None:
            raise InputError(
                f"expected adapters of stacked experts at {where} that peft of today reads as they were trained, got "
                f"{problem}; merge them with what wrote them, and set `policy.source` to the result"
            )


def _sides(settings: Mapping[str, Any]) -> str | None:
    said = f"`peft_version: {settings.get('peft_version')}`"
    return f"{said}, which took the sides of experts for each other" if version_of(settings) < _TURNED else None


def _order(settings: Mapping[str, Any]) -> str | None:
    by_unsloth = (settings.get("auto_mapping") or {}).get("unsloth_fixed")
    order = settings.get("lora_B_layout") or ("none" if by_unsloth else _PEFTS)
    return None if order == _PEFTS else f"Unsloth's (`lora_B_layout: {order}`), in the order of before September 2026"


def _stored_name(name: str) -> str:
    """What peft calls a tensor of the one adapter in its files."""
    return re.sub(r"(\.lora_\w+)\.default", r"\1", name).replace(".lora_magnitude_vector.weight", _MAGNITUDE)


def lost_by_peft(model: "PeftModel") -> list[str]:
    """Stored adapters that peft's own loading would silently skip, because it renames them to names nothing has."""
    from peft.utils.transformers_weight_conversion import convert_peft_adapter_state_dict_for_transformers

    state = adapter_state(model)
    shapes = {name: torch.empty(weight.shape, device="meta") for name, weight in state.items()}
    [config] = model.peft_config.values()
    read = convert_peft_adapter_state_dict_for_transformers(cast(nn.Module, model), config, shapes)
    return sorted(state.keys() - read.keys())
