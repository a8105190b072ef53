"""Low-rank adapters on a model, and back into its weights."""

import logging
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from torch import nn
from transformers import PreTrainedModel

from lit_longpo.engine import base_model
from lit_longpo.errors import InputError
from lit_longpo.policy.adapter_weights import set_weights
from lit_longpo.policy.targets import ALL_LINEAR, check_targets, meant_by
from lit_longpo.policy.weights.freezing import names_with
from lit_longpo.policy.weights.linear_maps import unadaptable
from lit_longpo.policy.weights.quantization import dequantized, is_quantized
from lit_longpo.policy.weights.unread import unread_maps
from lit_longpo.ranges import check_range
from lit_longpo.strategies.sharding import whole_parameters

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel

log = logging.getLogger(__name__)


@dataclass
class LoRA:
    """Low-rank adapters (peft).

    Args:
        r: rank.
        alpha: scale; adapters are multiplied by alpha / r.
        dropout: adapter dropout. Above 0 the responses of one prompt share the prompt's dropout mask.
        target_modules: a list of names (their ends are enough), a regular expression of whole names, or "all-linear"
            for every linear layer but the head, and but those that cannot have adapters (Llama-4's routers, `out_proj`
            of Mamba layers). Where experts were linear layers in transformers 4 (Mixtral, Qwen MoE, DeepSeek-V3 and
            their like), peft takes their names, `gate` among them, and "all-linear" for the stacked experts and the
            router, and passes over shared experts and dense layers of the same names, which is said; a list of other
            names leaves all of those frozen.
        also_train: parts of parameter names that are trained in full beside the adapters, for example
            `[embed_tokens, norm]` (LOGO); `*` stands for anything. They are exported merged, not as adapters.
        use_rslora: scale by alpha / sqrt(r) instead, so that a high rank learns as fast (arXiv 2312.03732).
        use_dora: train the length of each weight's rows apart from their direction (arXiv 2402.09353): a little
            better at low ranks, slower. It starts as the base does.

    Raises:
        InputError: a number is out of range.
    """

    r: int = 16
    alpha: int = 32
    dropout: float = 0.0
    target_modules: str | list[str] = ALL_LINEAR
    also_train: list[str] = field(default_factory=list)
    use_rslora: bool = False
    use_dora: bool = False

    def __post_init__(self) -> None:
        check_range("policy.lora.r", self.r, "16 is usual", at_least=1)
        check_range("policy.lora.alpha", self.alpha, "twice the rank is usual", at_least=1)
        check_range("policy.lora.dropout", self.dropout, "0.05 is usual", at_least=0.0, below=1.0)


def add_adapters(model: PreTrainedModel, lora: LoRA) -> nn.Module:
    """The model with new adapters, and with what is trained beside them unfrozen.

    Raises:
        InputError: `target_modules` names a module that is not there, `also_train` a part that no parameter has; or a
            row that DoRA would divide by is zero.
    """
    from peft import LoraConfig

    check_targets(model, lora.target_modules)
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
        task_type="CAUSAL_LM",
    )
    unread = unread_maps(model)
    config.exclude_modules = sorted(unread) or None
    odd, meant = unadaptable(model) | unread, meant_by(model, lora.target_modules)
    wrapped = with_adapters(model, config, "`policy.lora.target_modules`")
    _check_read(wrapped, odd)
    _tell_passed_over(wrapped, set(meant) - set(odd))
    if lora.use_dora:
        _check_magnitudes(wrapped)
    unfreeze(wrapped, lora.also_train)
    return wrapped


def _check_read(model: nn.Module, odd: Iterable[str]) -> None:
    """An adapter whose layer passes over it would be trained for nothing."""
    if lost := sorted(_adapted(model) & set(odd)):
        raise InputError(
            f"expected `policy.lora.target_modules` to name maps that their layers call, got {lost[0]}, whose weight "
            "the layer reads itself; leave it out, as --policy.lora.target_modules all-linear does"
        )


def _adapted(model: nn.Module) -> set[str]:
    return {name for name, module in base_model(model).named_modules() if hasattr(module, "lora_A")}


def _tell_passed_over(model: nn.Module, meant: set[str]) -> None:
    """Shared experts' `gate_proj`, `up_proj`, `down_proj` are the stacked ones' names to peft 0.21 (peft#3711)."""
    if without := meant - _adapted(model):
        kinds = sorted({re.sub(r"\b\d+\.", "", name) for name in without})
        log.warning(
            "peft puts no adapters on %d of the %d linear maps that `policy.lora.target_modules` means: %s; they stay "
            "as they are",
            *(len(without), len(meant), ", ".join(kinds)),
        )


def _check_magnitudes(model: nn.Module) -> None:
    """DoRA divides by the length of each row of a weight; rows of zeros would make every score not a number."""
    for name, parameter in model.named_parameters():
        zeros = int((parameter <= 0).sum()) if "lora_magnitude_vector" in name and not parameter.is_meta else 0
        if zeros:
            raise InputError(
                f"expected weights without rows of zeros under `policy.lora.use_dora`, got {zeros} of them at "
                f"{name.partition('.lora_')[0].removeprefix('base_model.model.')}; leave it out of "
                "`policy.lora.target_modules`, or type --policy.lora.use_dora false"
            )


def mark_as_start(model: "PeftModel") -> None:
    """Say that the adapters belong to what training starts from, as a reference does; copies say so too."""
    cast(Any, model).adapters_are_start = True


def adapters_are_start(model: nn.Module) -> bool:
    """Whether the model before training is the one with its adapters on; new adapters change nothing yet."""
    return bool(getattr(model, "adapters_are_start", False))


def merge_adapters(model: nn.Module) -> PreTrainedModel:
    """The model with its adapters added to its weights; it is changed in place.

    4-bit weights are made whole first: quantised again, the sum would be another model.

    Raises:
        InputError: an adapter sits on one of several tied layers, which share the weight it would be added to; or has a
            bias, and its layer none.
    """
    base = base_model(model)
    _check_mergeable(base)
    model = _on_whole_base(cast("PeftModel", model)) if is_quantized(base) else model
    _merge_layers(model)
    return cast(PreTrainedModel, cast(Any, model).merge_and_unload())


def _check_mergeable(base: PreTrainedModel) -> None:
    ends = [module for module in (base.get_input_embeddings(), base.get_output_embeddings()) if module is not None]
    tied = len({id(_below(module).weight) for module in ends}) == 1
    if tied and (any(hasattr(module, "base_layer") for module in ends) or _differing_rows(ends)):
        raise InputError(
            "an adapter sits on an embedding or head whose weight both share, so it cannot be merged; give the base "
            "model a head of its own first (`tie_word_embeddings: false`)"
        )
    if shared := _on_shared_weights(base):
        raise InputError(
            f"expected adapters on layers with weights of their own, got {len(shared)} on layers that share theirs "
            f"({shared[0]}), each of which would change the others: they cannot be merged; leave --merge_adapters out, "
            "or name other layers in `policy.lora.target_modules`"
        )
    for name, module in base.named_modules():
        if any(getattr(module, "lora_bias", {}).values()) and getattr(module.base_layer, "bias", None) is None:
            raise InputError(
                f"expected a bias at {name}, to which that of its adapter (`lora_bias: true`) is added, got none: "
                "such adapters cannot be merged; type --policy.adapters continue"
            )


def _below(module: nn.Module) -> Any:
    """The layer under adapters."""
    return getattr(getattr(module, "token_adapter", module), "base_layer", module)


def _differing_rows(ends: Iterable[nn.Module]) -> bool:
    """Whether embeddings and head were given rows of their own (`trainable_token_indices`), each for itself."""
    rows: list[Any] = [getattr(module, "token_adapter", None) for module in ends]
    given = {id(adapter if adapter.tied_adapter is None else adapter.tied_adapter) for adapter in rows if adapter}
    return bool(given) and (len(given) > 1 or None in rows)


def _on_shared_weights(base: PreTrainedModel) -> list[str]:
    """Adapted layers whose weight is another layer's, too (Zamba has one attention block in several places)."""
    layers = {name: module.base_layer for name, module in base.named_modules() if hasattr(module, "base_layer")}
    plain = [module for module in base.modules() if not hasattr(module, "base_layer")]
    users = Counter(id(weight) for module in plain for weight in module._parameters.values() if weight is not None)
    return [name for name, layer in layers.items() if users[id(getattr(layer, "weight", None))] > 1]


def _on_whole_base(model: "PeftModel") -> "PeftModel":
    """The same adapters on plain linear maps."""
    from peft import get_peft_model_state_dict

    state, [config] = get_peft_model_state_dict(model, save_embedding_layers=False), model.peft_config.values()
    wrapped = with_adapters(dequantized(cast(Any, model).unload()), cast("LoraConfig", config), "the adapters")
    set_weights(wrapped, state)
    return wrapped


def _merge_layers(model: nn.Module) -> None:
    """One layer after the other, so that under ZeRO-3 no rank holds more than that whole; peft passes over them."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for layer in [module for module in model.modules() if isinstance(module, BaseTunerLayer)]:
        with whole_parameters(layer):
            layer.merge()


def unfreeze(model: nn.Module, parts: Iterable[str]) -> None:
    """Train the base parameters whose names hold one of `parts`; tied heads stay tied.

    Raises:
        InputError: no parameter has such a name, or it is a 4-bit weight.
    """
    every = model.named_parameters(remove_duplicate=False)  # tied weights by either name
    named = {name: parameter for name, parameter in every if "lora_" not in name}
    for part in parts:
        matching = [named[name] for name in names_with(named, part, "policy.lora.also_train")]
        if any(not parameter.is_floating_point() for parameter in matching):
            raise InputError(
                f"expected `policy.lora.also_train` to name weights of full precision, got {part!r}, whose weights "
                "`policy.quantization` holds in 4 bits; embeddings, head and norms can be trained"
            )
        for parameter in matching:
            parameter.requires_grad_(True)


def with_adapters(model: PreTrainedModel, config: "LoraConfig", what: str) -> "PeftModel":
    """The model with adapters as peft makes them.

    Args:
        model: to be changed in place.
        config: of the adapters.
        what: where the module names were said, for the error.

    Raises:
        InputError: the model has none of these modules.
    """
    from peft import get_peft_model

    if config.target_modules == ALL_LINEAR:
        config.exclude_modules = sorted(unadaptable(model) | unread_maps(model)) or None
    # Checkpointing needs an input that requires gradients although the embedding is frozen.
    model.enable_input_require_grads()
    try:
        return cast("PeftModel", get_peft_model(model, config))
    except ValueError as error:
        raise InputError(
            f"expected {what} to name modules of {type(model).__name__}, got {config.target_modules}; `all-linear` "
            f"always works ({error})"
        ) from error
