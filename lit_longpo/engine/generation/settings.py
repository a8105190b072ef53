"""When answers end, and which of a model's own generation settings change its most likely one."""

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
}


@dataclass(frozen=True)
class Limits:
    """When rows end.

    Args:
        max_new_tokens: tokens to generate at most.
        stop_ids: each of them ends a row.
        min_new_tokens: tokens before which none of them is generated.
    """

    max_new_tokens: int
    stop_ids: tuple[int, ...]
    min_new_tokens: int = 0


def end_ids(model: torch.nn.Module) -> tuple[int, ...]:
    """Tokens that end an answer by the model's own generation settings, often more than the tokenizer's one.

    Args:
        model: a causal language model, perhaps PEFT-wrapped, outside of `generation_mode`.
    """
    return ends_of(base_model(model).generation_config)


def ends_of(settings: GenerationConfig) -> tuple[int, ...]:
    """Tokens that end an answer by generation settings."""
    ends = getattr(settings, "eos_token_id", None)
    return () if ends is None else (ends,) if isinstance(ends, int) else tuple(ends)


def until_stop_ids(ids: Iterable[int], stop_ids: Container[int]) -> list[int]:
    """The ids before the first one that ends an answer.

    Args:
        ids: of a row that was generated, with what stands behind its end.
        stop_ids: each of them ends the answer.
    """
    return list(takewhile(lambda token: token not in stop_ids, ids))


def greedy_settings(model: torch.nn.Module) -> dict[str, Any]:
    """The model's own generation settings that change its most likely answer, as far as they are set.

    Args:
        model: a causal language model, perhaps PEFT-wrapped, outside of `generation_mode`.
    """
    return greedy_of(base_model(model).generation_config)


def greedy_of(settings: GenerationConfig) -> dict[str, Any]:
    """Generation settings that change the most likely answer, as far as they are set."""
    values = {name: getattr(settings, name, None) for name in _NEUTRAL}
    return {name: value for name, value in values.items() if value is not None and value != _NEUTRAL[name]}
