"""Rotary position embeddings: overrides for longer contexts, and the way back to the original.

A policy that is stretched to longer contexts gets a larger theta (LongPO: 1e7) or a scaling, while
the reference keeps what it was trained with. Both run on the same weights: only the module that
computes the angles is exchanged.
"""

import copy
import inspect
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn
from transformers import PretrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from lit_longpo.engine import base_model, exchanged_rotary, rotary_embedding
from lit_longpo.engine.decoder import decoder_of
from lit_longpo.engine.layers import model_class
from lit_longpo.errors import InputError
from lit_longpo.files.strict_json import shortened
from lit_longpo.policy.window import (
    CHUNKS,
    global_parameters,
    global_rope,
    is_scaled_without_origin,
    states_scaled_length,
    trained_length,
)
from lit_longpo.ranges import LARGEST, check_range

_EVERY_TYPE = frozenset({"rope_theta", "rope_type", "partial_rotary_factor"})


@dataclass
class RoPE:
    """Changes to a model's rotary position embedding; `None` keeps what the model has.

    If a model has separate settings for local and global layers, only the global ones change.

    Args:
        theta: base of the angles' geometric series.
        type: kind of scaling. "dynamic" follows the longest sequence of each group (`lit_longpo.engine.rotary`).
        factor: how many times longer than `original_length` contexts become, at least 1; for every type except
            "default".
        original_length: tokens the model was trained on ("yarn" and "dynamic"). `None` takes the value in its
            configuration, which is not `max_position_embeddings` if the model is scaled already.
        max_length: new `max_position_embeddings`; `None` keeps the model's. Not allowed with "dynamic", which reads
            it as the length that the model was trained on.

    Raises:
        InputError: a scaling without a factor, a value out of range, or "dynamic" with `max_length`.
    """

    theta: float | None = None
    type: Literal["default", "linear", "yarn", "dynamic"] | None = None
    factor: float | None = None
    original_length: int | None = None
    max_length: int | None = None

    def __post_init__(self) -> None:
        self._check_numbers()
        if self.type not in (None, "default") and self.factor is None:
            raise InputError(
                f"expected `policy.rope.factor` with `policy.rope.type: {self.type}`, got none; 4.0 makes contexts "
                "four times longer"
            )
        if self.type == "dynamic":
            self._check_dynamic()

    def apply(self, config: PretrainedConfig) -> None:
        """Change the configuration of a model that is about to be built.

        Raises:
            InputError: the model has no rotary embedding, or its type has no use for a setting.
        """
        text = config.get_text_config()
        parameters = global_rope(text)
        own = parameters.get("original_max_position_embeddings") or getattr(text, CHUNKS, None)
        trained = self.original_length or trained_length(text)
        scaled_by = parameters["factor"] if states_scaled_length(text) else None
        self._check_layers(text)
        self._exchange_type(parameters, text.model_type)
        kind = str(parameters.get("rope_type", "default"))
        self._check_use(kind, trained)
        _leave_attention_to(parameters, self.factor)
        state_head_width(text)
        changes = {"rope_theta": self.theta, "factor": self.factor}
        parameters.update({name: value for name, value in changes.items() if value is not None})
        if kind == "yarn":
            parameters["original_max_position_embeddings"] = trained
        if self.type == "dynamic":
            text.max_position_embeddings = trained
        if (own or self.original_length) and (self.type or self.factor):
            _end_where_scaled(text, parameters, trained)
        if getattr(text, CHUNKS, None) and (self.type or self.max_length):
            setattr(text, CHUNKS, None)  # what was said instead of it; others would still read by chunks
        if kind == "linear" and scaled_by:
            text.max_position_embeddings = int(text.max_position_embeddings * parameters["factor"] / scaled_by)
        elif kind == "linear" and (self.max_length or states_scaled_length(text)):  # the factor is not in it
            parameters["original_max_position_embeddings"] = trained
        if self.max_length is not None:
            text.max_position_embeddings = self.max_length

    def _check_numbers(self) -> None:
        if self.theta is not None:
            check_range("policy.rope.theta", self.theta, "1e7 is LongPO's", above=1.0, at_most=1e12)
        if self.factor is not None:
            check_range("policy.rope.factor", self.factor, "4.0 is four times longer", at_least=1.0, at_most=LARGEST)
        for name in ("original_length", "max_length"):
            if (length := getattr(self, name)) is not None:
                check_range(f"policy.rope.{name}", length, "null keeps the model's", at_least=1)

    def _check_dynamic(self) -> None:
        if self.max_length is not None:
            raise InputError(
                "expected no `policy.rope.max_length` with a dynamic scaling (`policy.rope.type`, or the model's own), "
                f"which stretches whatever is longer than the model's own length, got {self.max_length}; remove "
                "`policy.rope.max_length`, and type --policy.rope.factor for longer texts"
            )

    def _check_layers(self, text: PretrainedConfig) -> None:
        if self.theta is not None and getattr(text, "layer_rope_theta", None):
            raise InputError(
                "expected a model with one base for all its layers with `policy.rope.theta`, got one that names each "
                f"layer's ({text.model_type}, `layer_rope_theta`), which would stay as they are; remove it"
            )

    def _exchange_type(self, parameters: dict[str, Any], model_type: str) -> None:
        kind = parameters.get("rope_type", "default")
        if self.type is None or self.type == kind:
            return
        if kind == "proportional" or "llama_4_scaling_beta" in parameters or model_type == "phimoe":
            raise InputError(
                "expected `policy.rope.type: null` for a model whose code takes its own positions for granted "
                f"({kind}: Gemma 4, Ministral 3, PhiMoE), got {self.type}; change `policy.rope.theta` or its factor"
            )
        if is_scaled_without_origin(parameters):
            self._check_origin(self.type)
        for name in set(parameters) - _EVERY_TYPE:  # settings of the type that it had
            del parameters[name]
        parameters["rope_type"] = self.type

    def _check_origin(self, kind: str) -> None:
        wanted = "max_length" if kind == "default" else "original_length"
        if getattr(self, wanted) is None:
            raise InputError(
                f"expected `policy.rope.{wanted}` beside `policy.rope.type: {kind}` for a model with a linear scaling "
                "of its own, whose `max_position_embeddings` may be the length before it (Vicuna-16k: 4,096) or with "
                f"it (Gemma 3: 131,072), got null; type --policy.rope.{wanted} TOKENS, or leave out the type to change "
                "its factor"
            )

    def _check_use(self, kind: str, trained: int | None) -> None:
        if kind == "dynamic":
            self._check_dynamic()
        if trained is None and kind in ("yarn", "dynamic"):
            raise InputError(
                "expected `policy.rope.original_length` for a model whose configuration names no length that it was "
                "trained on, got null; type --policy.rope.original_length TOKENS"
            )
        if self.factor is not None and kind == "longrope":
            raise InputError(
                f"expected no `policy.rope.factor` with longrope, whose lists say how far each frequency is stretched, "
                f"got {self.factor}; remove it, or set `policy.rope.type: yarn`"
            )
        if self.factor is not None and kind == "default":
            raise InputError(
                f"expected `policy.rope.type` with `policy.rope.factor: {self.factor}`, got a model without scaling; "
                "set `policy.rope.type: yarn`"
            )
        if self.original_length is not None and kind not in ("yarn", "dynamic"):
            raise InputError(
                f"expected type yarn or dynamic with `policy.rope.original_length: {self.original_length}`, got "
                f"{kind}, which has no use for it; remove it, or set `policy.rope.type: yarn`"
            )


def state_head_width(text: PretrainedConfig) -> None:
    """State the width of heads that a model leaves out (Mixtral): formulas of scaled positions multiply it."""
    if getattr(text, "head_dim", 0) is None and global_parameters(text).get("rope_type", "default") != "default":
        text.head_dim = text.hidden_size // text.num_attention_heads


def _leave_attention_to(parameters: dict[str, Any], factor: float | None) -> None:
    """Drop a stated attention temperature that belongs to another YaRN factor (Olmo 3 states it)."""
    before, stated = parameters.get("factor"), parameters.get("attention_factor")
    if factor is not None and before and stated and math.isclose(stated, 0.1 * math.log(before) + 1, rel_tol=1e-3):
        del parameters["attention_factor"]


def _end_where_scaled(text: PretrainedConfig, parameters: dict[str, Any], trained: int | None) -> None:
    """Lower the length that belonged to a model's own scaling to what the new one reaches (unsloth#7028)."""
    kind = parameters.get("rope_type", "default")
    if trained is None or kind not in ("default", "linear", "yarn"):
        return
    if kind == "linear":  # else the scaled length would be taken for the one that it was trained on
        parameters["original_max_position_embeddings"] = trained
    reach = int(trained * (1.0 if kind == "default" else parameters["factor"]))
    text.max_position_embeddings = min(text.max_position_embeddings, reach)


def refuse_unknown_type(config: PretrainedConfig, where: str) -> None:
    """Refuse a type of scaling that neither transformers knows nor the model's own code.

    transformers ends in a KeyError, as if the weights could not be read.
    """
    text = config.get_text_config()
    parameters = getattr(text, "rope_parameters", None) or {}
    parts = [part for part in (parameters, *parameters.values()) if isinstance(part, dict)]
    kind = next((part["rope_type"] for part in parts if not _is_known(part.get("rope_type", "default"), config)), None)
    if kind is not None:
        raise InputError(
            f"expected a `rope_type` that transformers knows in the config.json at {where}, got {shortened(str(kind))} "
            f"(known: default, {', '.join(ROPE_INIT_FUNCTIONS)}); correct it there, or type --policy.rope.type yarn "
            "--policy.rope.factor with how many times longer texts may be"
        )


def _is_known(kind: Any, config: PretrainedConfig) -> bool:
    built = model_class(config)
    if kind in (None, "default", *ROPE_INIT_FUNCTIONS) or built is None:
        return True
    return isinstance(kind, str) and f'"{kind}"' in inspect.getsource(sys.modules[built.__module__])


def refuse_idle_factor(config: PretrainedConfig, where: str) -> None:
    """Refuse a factor without a type of scaling, which transformers leaves out: long texts would be read unscaled."""
    rope = global_parameters(config.get_text_config())
    factor = rope.get("factor")
    if rope.get("rope_type", "default") == "default" and factor not in (None, 1):
        raise InputError(
            f"expected a type of scaling beside `factor: {factor}` in the rotary settings of the config.json at "
            f"{where}, got none, or default, which leaves it out; write `rope_type` there, or type --policy.rope.type "
            f"yarn --policy.rope.factor {factor}"
        )


def refuse_idle_theta(config: PretrainedConfig, where: str) -> None:
    """Refuse a base of rotary angles that stands where transformers 5 does not look: DBRX's, beside its heads.

    Raises:
        InputError: saying what to type.
    """
    said = (config.to_dict().get("attn_config") or {}).get("rope_theta")
    held = global_parameters(config).get("rope_theta")
    if held is not None and said not in (None, held):
        raise InputError(
            f"expected the `rope_theta: {said:g}` of `attn_config` in the config.json at {where}, got a model with "
            f"{held:g}, as transformers leaves it out; type --policy.rope.theta {said:g}"
        )


@contextmanager
def original_rope(model: nn.Module, config: PretrainedConfig | None) -> Iterator[None]:
    """Inside the block the model computes positions as `config` says; `None` changes nothing.

    Raises:
        InputError: the angles are not in `rotary_emb` of the decoder, or attention has another temperature with these.
    """
    if config is None:
        yield
        return
    if problem := temperature_problem(base_model(model).config, config):
        raise InputError(problem)
    decoder = decoder_of(base_model(model))
    changed = rotary_embedding(decoder)
    if changed is None:
        raise InputError(
            f"expected one module in {type(decoder).__name__} that computes rotary angles, to give the reference its "
            "original positions, found none or several; set `reference.policy` to the unchanged model instead of "
            "`policy.rope`"
        )
    device = next(decoder.parameters()).device
    original = type(changed)(copy.deepcopy(config.get_text_config())).to(device)
    with exchanged_rotary(decoder, original):
        yield


def temperature_problem(config: PretrainedConfig, original: PretrainedConfig) -> str | None:
    """Why exchanged angles do not make a model of the original positions; `None` if they do."""
    if _read_by_attention(config) == _read_by_attention(original):
        return None
    return (
        "expected attention that reads angles alone, to give the reference its original positions, got that of "
        f"{config.model_type}, whose temperature follows the rotary settings, too; set `reference.policy` to the "
        "unchanged model, or change `policy.rope.theta` alone"
    )


def _read_by_attention(config: PretrainedConfig) -> list[Any]:
    """Rotary settings that attention reads beside angles: YaRN's temperature (latent ones), a length (Ministral)."""
    text = config.get_text_config()
    rope, latent = global_parameters(text), hasattr(text, "qk_rope_head_dim")
    scaled = latent and rope.get("rope_type", "default") != "default" and rope.get("mscale_all_dim")
    return [
        (rope["mscale_all_dim"], rope["factor"]) if scaled else None,
        rope.get("original_max_position_embeddings") if rope.get("llama_4_scaling_beta") else None,
    ]
