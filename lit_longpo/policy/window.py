"""How far a model can read by its configuration, and what to type where sequences reach further."""

import math
from collections.abc import Mapping
from typing import Any

from transformers import PretrainedConfig

from lit_longpo.errors import InputError

CHUNKS = "dual_chunk_attention_config"
_SCALED_BY_FACTOR = ("yarn", "linear", "dynamic", "longrope")  # of a length that does not hold the factor


def trained_length(config: PretrainedConfig) -> int | None:
    """Tokens that a model was trained on before any scaling; `None` if its configuration does not say."""
    scaled_from = global_rope(config).get("original_max_position_embeddings")
    length = scaled_from or _stated_length(config)
    return None if length is None else int(length)


def _stated_length(text: PretrainedConfig) -> int | None:
    """`max_position_embeddings`, or less where it takes dual chunk attention, which transformers leaves out.

    Files of Qwen2.5-1M state 1,010,000 positions. By plain attention they can read the 262,144 that they were trained
    on, which stand beside the chunks.
    """
    length: int | None = getattr(text, "max_position_embeddings", None)
    chunks = getattr(text, CHUNKS, None) or {}
    plain = chunks.get("original_max_position_embeddings")
    return length if length is None or plain is None else min(length, plain)


def readable_positions(config: PretrainedConfig) -> int | None:
    """Positions that a model can read, scaled ones included; `None` if its configuration does not say.

    Model cards (Qwen2.5, Qwen3) advise to add a YaRN scaling and to leave `max_position_embeddings` as it is, and
    transformers asks the same of "linear" and "dynamic". "longrope" is written either way: with a factor, or (Phi-3)
    with the scaled length and none. Other types state the scaled length themselves.
    """
    text = config.get_text_config()
    size = _stated_length(text)
    if size is None:
        return None
    rope = global_parameters(text)
    if rope.get("rope_type") not in _SCALED_BY_FACTOR or not rope.get("factor"):
        return int(size)
    if states_scaled_length(text):
        return int(size)
    trained = rope.get("original_max_position_embeddings") or size
    return max(int(size), int(trained * rope["factor"]))


def states_scaled_length(text: PretrainedConfig) -> bool:
    """Whether `max_position_embeddings` holds a linear factor already: where layers are of two kinds (Gemma 3)."""
    rope = global_parameters(text)
    return rope is not getattr(text, "rope_parameters", None) and is_scaled_without_origin(rope)


def window_problem(reach: int, config: PretrainedConfig, *, synthesised: bool = False) -> str | None:
    """What to type where positions reach beyond what a model was made for; `None` if they do not.

    Args:
        reach: positions of the longest sequence.
        config: of the model, with its rotary settings as they are used.
        synthesised: whether `data.init_args.positions` is why they reach so far, and no sequence is so long.
    """
    window = readable_positions(config)
    if window is None or reach <= window:
        return None
    shorter = f"--data.positions.target_length {window} to stay inside of it" if synthesised else _cut(window)
    return (
        f"training data: positions reach {reach:,}, the model was made for {window:,}; type {shorter}"
        f"{_stretched(reach, config)}"
    )


def check_window(reach: int, config: PretrainedConfig) -> None:
    """Refuse positions beyond what a model was made for, unless the user has said how far it shall read.

    `policy.rope.max_length` says that. Models without rotary positions take no such setting; for them, and where it
    is too late to set one, `window_problem` is said.
    """
    window = readable_positions(config)
    if window is not None and reach > window and _has_rope(config):
        as_it_is = f", or --policy.rope.max_length {reach} to read so far as it is"
        raise InputError(
            f"expected sequences of at most {window:,} positions, which the model was made for, got {reach:,}; type "
            f"{_cut(window)}{_stretched(reach, config)}{'' if _is_dynamic(config) else as_it_is}"
        )


def _cut(window: int) -> str:
    return f"--data.max_length {window} --data.on_overlength truncate to cut contexts"


def _stretched(reach: int, config: PretrainedConfig) -> str:
    text = config.get_text_config()
    trained = trained_length(text) if _has_rope(config) else None
    if trained is None or is_scaled_without_origin(global_parameters(text)):
        return ""
    factor = math.ceil(reach / trained)
    return f", {'or ' * _is_dynamic(config)}--policy.rope.type yarn --policy.rope.factor {factor} to stretch the model"


def _is_dynamic(config: PretrainedConfig) -> bool:
    """Whether a model stretches what is longer than `max_position_embeddings`, which `max_length` would change."""
    return bool(global_parameters(config.get_text_config()).get("rope_type") == "dynamic")


def is_scaled_without_origin(parameters: Mapping[str, Any]) -> bool:
    """Whether positions are divided by a factor, and nothing says how many there were before (Gemma 3)."""
    scaled = parameters.get("rope_type") == "linear" and (parameters.get("factor") or 1) > 1
    return scaled and "original_max_position_embeddings" not in parameters


def _has_rope(config: PretrainedConfig) -> bool:
    return "rope_theta" in global_parameters(config.get_text_config())


def global_rope(config: PretrainedConfig) -> dict[str, Any]:
    """The configuration's rotary settings, of the global layers if local ones have their own.

    Raises:
        InputError: there are none.
    """
    parameters = global_parameters(config)
    if "rope_theta" not in parameters:
        raise InputError(
            f"expected a model with rotary position embeddings, got {type(config).__name__}; remove `policy.rope`"
        )
    return parameters


def global_parameters(config: PretrainedConfig) -> dict[str, Any]:
    """Rotary settings of the global layers, or of all; empty if there are none."""
    parameters: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    return parameters.get("full_attention", parameters) or {}  # global layers may have none (Cohere Compass)
