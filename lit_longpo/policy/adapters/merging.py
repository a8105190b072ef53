"""Low-rank adapters added to the weights that they sit on."""

import copy
import logging
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lit_longpo.engine import base_model
from lit_longpo.engine.decoder import whole_shape
from lit_longpo.errors import InputError
from lit_longpo.policy.adapters.lora import with_adapters
from lit_longpo.policy.adapters.weights import adapted_layers, adapter_state, set_weights
from lit_longpo.policy.weights.quantization import is_quantized
from lit_longpo.strategies.sharding import whole_parameters

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel

log = logging.getLogger(__name__)

_TOLD = 0.005  # shares of a change that are worth a word


def merge_adapters(model: nn.Module, *, single: bool = False) -> PreTrainedModel:
    """The model with its adapters added to its weights; it is changed in place.

    4-bit weights are made whole first: quantised again, the sum would be another model. Weights in half precision are
    added to in fp32 and rounded once; a warning says what that takes away from the adapters.

    Args:
        model: PEFT-wrapped.
        single: give the model in fp32, which rounds nothing, and off the accelerator, which may have no room for it.

    Raises:
        InputError: an adapter sits on one of several tied layers, which share the weight it would be added to; or has a
            bias, and its layer none.
    """
    base = base_model(model)
    _check_mergeable(base)
    model = _on_whole_base(cast("PeftModel", model)) if is_quantized(base) else model
    model = model.cpu().float() if single else model
    rounding = _Rounding()
    _merge_layers(model, rounding)
    rounding.warn()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All adapters are already merged")  # by us, layer by layer
        merged = cast(PreTrainedModel, cast(Any, model).merge_and_unload())
    _correct_head(merged)
    return merged


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
    """Whether tied embeddings and head were trained apart by `trainable_token_indices`, so that they now differ."""
    rows: list[Any] = [getattr(module, "token_adapter", None) for module in ends]
    given = {id(adapter if adapter.tied_adapter is None else adapter.tied_adapter) for adapter in rows if adapter}
    return bool(given) and (len(given) > 1 or None in rows)


def _on_shared_weights(base: PreTrainedModel) -> list[str]:
    """Adapted layers that share their weight with another layer (Zamba uses one attention block several times)."""
    layers = {name: layer.base_layer for name, layer in adapted_layers(base).items()}
    plain = [module for module in base.modules() if not hasattr(module, "base_layer")]
    users = Counter(id(weight) for module in plain for weight in module._parameters.values() if weight is not None)
    return [name for name, layer in layers.items() if users[id(getattr(layer, "weight", None))] > 1]


def _on_whole_base(model: "PeftModel") -> "PeftModel":
    """The same adapters on plain linear maps."""
    state, [config] = adapter_state(model), map(copy.copy, model.peft_config.values())
    cast(Any, config).init_lora_weights = True  # "olora" would take its start from the weights once more
    base = cast(Any, model).unload().dequantize()
    wrapped = with_adapters(base, cast("LoraConfig", config), "the adapters")
    set_weights(wrapped, state)
    return wrapped


def _merge_layers(model: nn.Module, rounding: "_Rounding") -> None:
    """One layer after the other, so that under ZeRO-3 no rank holds more than that whole; peft passes over them."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for layer in [module for module in model.modules() if isinstance(module, BaseTunerLayer)]:
        with whole_parameters(layer), rounding.once(layer):
            layer.merge()


class _Rounding:
    """What adapters change in weights of half precision, and how much of it their rounding takes away.

    A weight moves by a whole step of its precision or not at all: in bf16 a change below 0.2 % of it is lost.
    """

    def __init__(self) -> None:
        self._changed = self._lost = 0.0  # sums of squares
        self._dtype = torch.float32

    @contextmanager
    def once(self, layer: nn.Module) -> Iterator[None]:
        """A layer in fp32; afterwards its tensors are what they were, with the new values."""
        halves = [(one, one.data) for one in layer.parameters() if one.is_floating_point() and one.dtype.itemsize < 4]
        for parameter, half in halves:
            parameter.data = half.float()
        yield
        for parameter, half in halves:
            exact, parameter.data = parameter.data, half
            self._add(half, exact)
            half.copy_(exact)

    def _add(self, half: Tensor, exact: Tensor) -> None:
        change = (exact - half).square().sum().item()
        if change:
            self._changed += change
            self._lost += (exact - exact.to(half.dtype)).square().sum().item()
            self._dtype = half.dtype

    def warn(self) -> None:
        """A warning, where it is worth one."""
        share = (self._lost / self._changed) ** 0.5 if self._changed else 0.0
        if share > _TOLD:
            name = str(self._dtype).removeprefix("torch.")
            log.warning(
                "merging into %s weights rounds away %.0f %% of what the adapters change, so the result is not what "
                "was trained; keep them apart, or merge in fp32: --policy.dtype float32, for an export --dtype float32",
                *(name, 100 * share),
            )


def _correct_head(model: PreTrainedModel) -> None:
    """Correct `in_features` and `out_features` of a head that peft has tied (`ensure_weight_tying`) and swapped."""
    head = model.get_output_embeddings()
    if isinstance(head, nn.Linear):
        head.out_features, head.in_features = whole_shape(head.weight)
