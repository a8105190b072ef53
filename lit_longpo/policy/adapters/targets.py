"""Names of the maps that adapters sit on, compared with a model's; weights are not looked at."""

import difflib
import re
from collections.abc import Collection, Iterable, Mapping

from torch import Tensor, nn
from transformers import PreTrainedModel

from lit_longpo.engine.decoder import whole_shape
from lit_longpo.errors import InputError
from lit_longpo.policy.weights.linear_maps import unadaptable

ALL_LINEAR = "all-linear"


def check_targets(model: PreTrainedModel, wanted: str | list[str]) -> None:
    """Every name of a list means some map, a pattern means one; peft is content if one of the names does.

    Names that transformers 4 had for the maps of experts mean the stacked experts of all layers, as peft reads them,
    whatever stands before them.

    Raises:
        InputError: one does not; the nearest are named.
    """
    if wanted == ALL_LINEAR:
        return
    modules = dict(model.named_modules())
    named = {name: _named(name, modules, is_pattern=isinstance(wanted, str)) for name in _listed(wanted)}
    stacked = {} if isinstance(wanted, str) else _stacked_experts(model)
    if some := [name for name in named if "." in name and name.rpartition(".")[2] in stacked]:
        every = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in some))
        raise _wrong_targets(model, ", ".join(some), f"which peft takes for the experts of all layers (type {every});")
    if missing := [name for name, found in named.items() if not found and name not in stacked]:
        raise _wrong_targets(model, ", ".join(missing), f"which it has not; {_hint(missing, model, wanted)}")
    _check_maps(model, {name: modules[name] for found in named.values() for name in found})


def _check_maps(model: PreTrainedModel, targets: Mapping[str, nn.Module]) -> None:
    """Refuse modules that adapters cannot sit on: those without a matrix, and the head."""
    for name, module in targets.items():
        if not _is_map(module):
            inside = ", ".join(sorted(part for part, child in module.named_children() if _is_map(child)))
            raise _wrong_targets(model, name, f"which is none{inside and f' (in it: {inside})'};")
    on_head = next((name for name, module in targets.items() if module is model.get_output_embeddings()), None)
    if on_head is not None:
        raise InputError(
            f"expected `policy.lora.target_modules` without the head of {type(model).__name__}, whose weight "
            f"log-probabilities are computed from directly, got {on_head}; leave it out, and to train it whole type "
            f"--policy.lora.also_train '[{on_head}]'"
        )


def meant_by(model: PreTrainedModel, wanted: str | list[str]) -> list[str]:
    """The linear maps that these names mean, by their own names."""
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    if wanted == ALL_LINEAR:
        return [name for name, module in linear.items() if module is not model.get_output_embeddings()]
    return modules_named(wanted, linear)


def modules_named(wanted: str | list[str], modules: Collection[str]) -> list[str]:
    """The modules, of those with these names, that `policy.lora.target_modules` means to peft."""
    return [found for name in _listed(wanted) for found in _named(name, modules, is_pattern=isinstance(wanted, str))]


def check_adapted(model: PreTrainedModel, pattern: str, adapted: Iterable[str]) -> None:
    """Refuse adapters that a pattern does not mean.

    Where experts were linear layers in transformers 4, peft compares only the ends of names with a pattern's: a
    pattern of one layer's map then means those of all layers, and one of shared experts the stacked ones, too.

    Args:
        model: beneath the adapters.
        pattern: `policy.lora.target_modules`.
        adapted: names of what has adapters.

    Raises:
        InputError: naming one.
    """
    inside = ["", *(f".{name}" for pair in _stacked_experts(model).items() for name in pair)]
    for name in (name.replace(".base_layer", "") for name in adapted):  # two stacked weights of one module
        if not any(re.fullmatch(pattern, name + part) for part in inside):
            ends = "of which peft takes the names' ends alone"
            why = f"{ends}, so that {name} would be trained, too; type a list of names,"
            raise _wrong_targets(model, pattern, why)


def _listed(wanted: str | list[str]) -> list[str]:
    return [wanted] if isinstance(wanted, str) else wanted or ["none"]


def _named(name: str, modules: Iterable[str], *, is_pattern: bool) -> list[str]:
    """The modules that a pattern or a name of a list means to peft."""
    if not is_pattern:
        return [module for module in modules if module == name or module.endswith(f".{name}")]
    try:
        return [module for module in modules if re.fullmatch(name, module)]
    except re.error as error:
        raise InputError(
            f"expected `policy.lora.target_modules` to be a list of names, or one regular expression, got {name!r} "
            f"({error}); type for example --policy.lora.target_modules '[q_proj, v_proj]'"
        ) from error


def _stacked_experts(model: PreTrainedModel) -> dict[str, str]:
    """The stacked experts of today by the names that maps of experts had in transformers 4, as peft takes them."""
    from peft.utils import transformers_weight_conversion as read_by_peft

    names: Mapping[str, Mapping[str, str]] = getattr(read_by_peft, "_MOE_TARGET_MODULE_MAPPING", {})
    kinds: Mapping[str, str] = getattr(read_by_peft, "_MODEL_TO_CONVERSION_PATTERN", {})
    stacked = names.get(kinds.get(model.config.model_type, ""), {})
    return {old: new for old, new in stacked.items() if "." not in new}  # the router's is a module's


def _is_map(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and len(whole_shape(weight)) > 1


def _hint(missing: list[str], model: PreTrainedModel, wanted: str | list[str]) -> str:
    adaptable = set(meant_by(model, ALL_LINEAR)) - unadaptable(model)
    last = {name.rpartition(".")[2] for name in adaptable}
    if isinstance(wanted, str) and wanted in last:
        return f"one text is a regular expression of whole names: type [{wanted}], or '.*\\.{wanted}';"
    if not isinstance(wanted, str) and any(set(name) & set("*^$\\|()+?") for name in missing):
        return "a list holds names: type a regular expression as one text, without brackets;"
    near = [close for name in missing for close in difflib.get_close_matches(name, last, n=1)]
    return f"did you mean {', '.join(near)}?" if near else f"it has {', '.join(sorted(last))};"


def _wrong_targets(model: PreTrainedModel, got: str, why: str) -> InputError:
    return InputError(
        f"expected `policy.lora.target_modules` to name maps of {type(model).__name__}, got {got}, {why} `all-linear` "
        "always works"
    )
