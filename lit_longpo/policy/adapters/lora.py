"""Low-rank adapters on a model."""

import logging
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from torch import nn
from transformers import PreTrainedModel

from lit_longpo.engine import base_model
from lit_longpo.errors import InputError
from lit_longpo.log_once import log_once
from lit_longpo.policy.adapters.targets import ALL_LINEAR, check_adapted, check_targets, meant_by
from lit_longpo.policy.adapters.weights import adapted_layers
from lit_longpo.policy.checkpointing import begin_graph
from lit_longpo.policy.weights.freezing import names_with
from lit_longpo.policy.weights.linear_maps import unadaptable
from lit_longpo.policy.weights.unread import unread_maps
from lit_longpo.ranges import check_range

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel

log = logging.getLogger(__name__)


@dataclass
class LoRA:
    """Low-rank adapters (peft).

    Args:
        r: rank.
        alpha: scale; adapters are multiplied by alpha / r.
        dropout: dropout of the adapters. Above 0, the responses of one prompt share its dropout mask.
        target_modules: a list of names (their ends are enough), a regular expression of whole names, or "all-linear"
            for every linear layer except the head and those that cannot have adapters (Llama-4's routers, `out_proj`
            of Mamba layers). Where experts were linear layers in transformers 4 (for example Mixtral, Qwen MoE,
            DeepSeek-V3), peft applies their names, including `gate`, and "all-linear" to the stacked experts and the
            router. It then ignores shared experts and dense layers of the same names, and a message says so. A list of
            other names leaves all of these frozen.
        also_train: parts of parameter names that are fully trained beside the adapters, for example
            `[embed_tokens, norm]` (LOGO); `*` stands for anything. They are exported merged, not as adapters.
        use_rslora: scale by alpha / sqrt(r) instead, so that a high rank learns as fast (arXiv 2312.03732).
        use_dora: train length and direction of each weight's rows separately (arXiv 2402.09353): a little better at low
            ranks, and slower. Training starts from the base.

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
    """The model with new adapters, and with the weights of `also_train` unfrozen.

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
    if isinstance(lora.target_modules, str) and lora.target_modules != ALL_LINEAR:
        check_adapted(model, lora.target_modules, adapted_layers(base_model(wrapped)))
    _check_read(wrapped, odd)
    _warn_of_tied(base_model(wrapped))
    _warn_of_passed_over(wrapped, set(meant) - set(odd))
    if lora.use_dora:
        _measure_magnitudes(wrapped)
        _check_magnitudes(wrapped)
    unfreeze(wrapped, lora.also_train)
    return wrapped


def _check_read(model: nn.Module, odd: Iterable[str]) -> None:
    """Refuse adapters on layers whose weight the model reads directly: they would have no effect."""
    if lost := sorted(adapted_layers(base_model(model)).keys() & set(odd)):
        raise InputError(
            f"expected `policy.lora.target_modules` to name linear layers that are called, got {lost[0]}: the model "
            "reads its weight directly, so adapters on it would have no effect; leave it out, as "
            "--policy.lora.target_modules all-linear does"
        )


def _warn_of_passed_over(model: nn.Module, meant: set[str]) -> None:
    """Warn of named layers without an adapter: peft 0.21 takes shared experts for stacked ones (peft#3711)."""
    if without := meant - adapted_layers(base_model(model)).keys():
        kinds = sorted({re.sub(r"\b\d+\.", "", name) for name in without})
        log_once(
            log.warning,
            "peft puts no adapters on %d of the %d linear layers that `policy.lora.target_modules` names: %s; these "
            "are not trained",
            *(len(without), len(meant), ", ".join(kinds)),
        )


def _warn_of_tied(base: PreTrainedModel) -> None:
    """Warn of adapters on embeddings whose weight is the head's, too: nothing holds both once they are merged."""
    embedding: Any = base.get_input_embeddings()
    if hasattr(embedding, "base_layer") and getattr(base.get_output_embeddings(), "weight", None) is embedding.weight:
        log_once(
            log.warning,
            "adapters on the embeddings of %s leave out the head, which shares their weight, and cannot be merged; to "
            "train both, name the embeddings in `policy.lora.also_train` instead of `target_modules`",
            type(base).__name__,
        )


def _measure_magnitudes(model: nn.Module) -> None:
    """Set DoRA's magnitudes to the rows' lengths in the adapters' own precision, so that training starts from the base.

    peft measures them while its matrices still have the base's dtype, and divides by lengths in fp32: of a base in bf16
    every row began up to 0.4 % longer or shorter.
    """
    for layer in adapted_layers(model).values():
        for name, variant in layer.lora_variant.items():
            variant.init(layer, name)


def _check_magnitudes(model: nn.Module) -> None:
    """Refuse DoRA on weights with rows of zeros: it divides by their length, and every score would be NaN."""
    for name, parameter in model.named_parameters():
        zeros = int((parameter <= 0).sum()) if "lora_magnitude_vector" in name and not parameter.is_meta else 0
        if zeros:
            raise InputError(
                f"expected weights without rows of zeros with `policy.lora.use_dora`, got {zeros} such rows in "
                f"{name.partition('.lora_')[0].removeprefix('base_model.model.')}; leave it out of "
                "`policy.lora.target_modules`, or type --policy.lora.use_dora false"
            )


def mark_as_start(model: "PeftModel") -> None:
    """Mark the adapters as part of what training starts from, so that a reference keeps them on, in copies too."""
    cast(Any, model).adapters_are_start = True


def adapters_are_start(model: nn.Module) -> bool:
    """Whether the adapters belong to what training starts from (`mark_as_start`)."""
    return bool(getattr(model, "adapters_are_start", False))


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
    """The model, changed in place, with adapters as peft makes them.

    Args:
        model: without adapters.
        config: of the adapters.
        what: where the module names were said, for the error.

    Raises:
        InputError: the model has none of these modules.
    """
    from peft import get_peft_model

    if config.target_modules == ALL_LINEAR:
        config.exclude_modules = sorted(unadaptable(model) | unread_maps(model)) or None
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True`")  # told, or refused when merged
            wrapped = cast("PeftModel", get_peft_model(model, config))
    except ValueError as error:
        raise InputError(_refusal(model, config, what, error)) from error
    begin_graph(model)
    return wrapped


def _refusal(model: PreTrainedModel, config: "LoraConfig", what: str, error: ValueError) -> str:
    """What to type where peft refuses adapters: on stacked experts it has none with dropout or DoRA."""
    unable = {"dropout 0": config.lora_dropout, "use_dora false": config.use_dora}
    typed = " ".join(f"--policy.lora.{words}" for words, value in unable.items() if value)
    if "ParamWrapper" in str(error) and typed:
        others = ", ".join(sorted(config.target_modules or ()))
        frozen = f", or leave experts frozen: --policy.lora.target_modules '[{others}]'" if others else ""
        return (
            f"expected neither dropout nor DoRA with adapters on the stacked experts of {type(model).__name__} "
            f"({what}), got one; type {typed}{frozen}"
        )
    return (
        f"expected {what} to name modules of {type(model).__name__}, got {config.target_modules}; `all-linear` always "
        f"works ({error})"
    )
