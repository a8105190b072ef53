"""Judges by a model's configuration whether it can be packed, before any weight is read."""

import inspect
import re
import sys
from functools import cache
from types import ModuleType

from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from lit_longpo.engine.attention import exact_attention

# By transformers' names: layers that treat tokens one by one or through attention ...
_EXACT = frozenset({"full_attention", "sliding_attention", "mlp", "moe"})
# ... and layers that carry a state from token to token, which a response can take over from its prompt (`states.py`).
STATE_LAYERS = frozenset({"linear_attention", "conv", "mamba", "hybrid"})
# Layers that a packed row would mix up, but whose masks leave padding out.
_CHUNKED = frozenset({"chunked_attention"})

_OWN_TABLE = re.compile(r"_ATTENTION_CLASSES\[config\._attn_implementation\]")


def layer_kinds(config: PretrainedConfig) -> tuple[str, ...]:
    """The kind of every layer (`layer_types`); empty if the configuration does not say."""
    return tuple(getattr(config, "layer_types", None) or ())


def experts_per_token(config: PretrainedConfig) -> int:
    """How many experts of a layer a token meets at most, 1 without any; Hunyuan says it for each layer.

    Args:
        config: of the language model (`get_text_config`).
    """
    said = getattr(config, "num_experts_per_tok", None) or 1
    return max(said) if isinstance(said, list | tuple) else int(said)


def counts_columns(config: PretrainedConfig) -> bool:
    """Whether some layer may count tokens from a row's first column, padding too (DeepSeek-V4 compresses windows so).

    Args:
        config: of the language model (`get_text_config`).
    """
    return bool(set(layer_kinds(config)) - _EXACT - _CHUNKED - STATE_LAYERS)


def packing_refusal(config: PretrainedConfig) -> str | None:
    """Why the configuration rules packed rows out; `None` if it does not.

    Args:
        config: of the language model (`get_text_config`).
    """
    unknown = set(layer_kinds(config)) - _EXACT - STATE_LAYERS
    if unknown:
        return f"layers of type {sorted(unknown)} carry state or masks that a packed row would mix up"
    return None


def dropout_problem(config: PretrainedConfig) -> str | None:
    """Why the configuration rules out scoring altogether; `None` if it does not."""
    if not getattr(config, "attention_dropout", 0.0):
        return None
    return "attention dropout differs between responses of one prompt; set `attention_dropout: 0`"


def packing_doubt(config: PretrainedConfig) -> str | None:
    """Why packed rows are ruled out, or only trusted after the probe; `None` if there is no such reason.

    Args:
        config: the whole one; it names the model's class.
    """
    text, model = config.get_text_config(), model_class(config)
    if (cause := packing_refusal(text)) is not None:
        return cause
    if model is not None and not takes_our_attention(model):
        return f"{model.__name__} does not call attention through transformers' interface"
    states = sorted(set(layer_kinds(text)) & STATE_LAYERS)
    return f"layers of type {states} carry state" if states else None


def attention_at_start(config: PretrainedConfig | None, packed_name: str) -> str:
    """The attention to load a model with: that of packed rows, or transformers' own if packed rows are in doubt.

    Args:
        config: the model's; `None` if it is not known, which raises no doubts.
        packed_name: attention of packed rows.
    """
    if config is None or packing_doubt(config) is None:
        return packed_name
    found = model_class(config)
    return packed_name if found is None else exact_attention(found, config)


def takes_our_attention(model: type[PreTrainedModel] | PreTrainedModel) -> bool:
    """Whether the model looks its attention up in transformers' registry (GIT has a table of its own)."""
    return model._can_set_attn_implementation() and not _OWN_TABLE.search(_source(sys.modules[model.__module__]))


@cache
def _source(module: ModuleType) -> str:
    return inspect.getsource(module)


def model_class(config: PretrainedConfig) -> type[PreTrainedModel] | None:
    """The class that transformers builds for a configuration; `None` if a source ships its own."""
    found = AutoModelForCausalLM._model_mapping.get(type(config), None)
    return found[0] if isinstance(found, tuple) else found
