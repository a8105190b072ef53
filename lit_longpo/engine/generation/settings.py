"""When answers end, and which of a model's generation settings change its greedy answer."""

from collections.abc import Container, Iterable
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from transformers import GenerationConfig

from lit_longpo.engine.decoder import base_model

# Generation settings that have a say without sampling, and the values at which they have none.
_NEUTRAL: dict[str, Any] = {
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,  # of the prompt's tokens, in decoders, too
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "bad_words_ids": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "sequence_bias": None,
    "forced_eos_token_id": None,
    "exponential_decay_length_penalty": None,
    "guidance_scale": 1.0,
    "min_new_tokens": 0,
    "min_length": 0,
    "stop_strings": None,
}


@dataclass(frozen=True)
class Limits:
    """When generated rows end.

    Args:
        max_new_tokens: tokens to generate at most.
        stop_ids: each of them ends a row.
        min_new_tokens: tokens before which none of them is generated.
    """

    max_new_tokens: int
    stop_ids: tuple[int, ...]
    min_new_tokens: int = 0


def end_ids(model: torch.nn.Module) -> tuple[int, ...]:
    """The tokens that end an answer according to the model's generation settings, often more than the tokenizer's.

    Args:
        model: a causal language model, perhaps PEFT-wrapped, outside of `generation_mode`.
    """
    return ends_of(base_model(model).generation_config)


def ends_of(settings: GenerationConfig) -> tuple[int, ...]:
    """The end tokens of generation settings, as a tuple."""
    ends = getattr(settings, "eos_token_id", None)
    return (ends,) if isinstance(ends, int) else tuple(ends or ())


def until_stop_ids(ids: Iterable[int], stop_ids: Container[int]) -> list[int]:
    """The ids before the first one that ends an answer.

    Args:
        ids: of a row that was generated, with what stands behind its end.
        stop_ids: each of them ends the answer.
    """
    return list(takewhile(lambda token: token not in stop_ids, ids))


def greedy_settings(model: torch.nn.Module) -> dict[str, Any]:
    """The model's generation settings that are set and change its greedy answer.

    Args:
        model: a causal language model, perhaps PEFT-wrapped, outside of `generation_mode`.
    """
    return greedy_of(base_model(model).generation_config)


def greedy_of(settings: GenerationConfig) -> dict[str, Any]:
    """The settings that are set and change the greedy answer."""
    values = {name: getattr(settings, name, None) for name in _NEUTRAL}
    return {name: value for name, value in values.items() if value is not None and value != _NEUTRAL[name]}
