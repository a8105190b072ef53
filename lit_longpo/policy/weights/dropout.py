"""A model's own dropout and jitter, which its configuration brings along and nobody asked for.

Answers are compared with each other and with a reference that drops nothing, so what a policy drops is noise in every
reward: an untrained one is no longer its reference (TRL turns dropout off for the same reason, trl#744). It is off
here, in the configuration that the model is built from; adapters have a dropout of their own (`policy.lora.dropout`).
So is jitter, by which routers of experts multiply what they read in training (Mixtral, MiniMax, DBRX).
"""

import re
from collections.abc import Iterator

from transformers import PretrainedConfig

_NAME = re.compile("dropout|pdrop|layerdrop|drop_rate|jitter")
_OTHER_HEADS = re.compile("classifier|summary")  # which no language model has
_SAMPLING = ("phimoe",)  # draw experts by chance in training, and mean another thing by `router_jitter_noise`


def dropouts(config: PretrainedConfig) -> dict[str, float]:
    """Settings that make a model drop or shake something, and how often or how far."""
    return {name: float(getattr(part, name)) for part, name in _settings(config)}


def turn_off(config: PretrainedConfig) -> None:
    """Make a model that is built from this configuration drop nothing."""
    for part, name in list(_settings(config)):
        setattr(part, name, type(getattr(part, name))(0))  # some are checked to be whole numbers


def sampling_problem(config: PretrainedConfig) -> str | None:
    """Why a model cannot be trained, because it draws random numbers that no setting turns off; `None` if it can.

    In eval mode such a model is exact.
    """
    if config.model_type not in _SAMPLING:
        return None
    return (
        f"expected a model that gives a text the same log-probabilities each time, got the type {config.model_type}, "
        "whose routers draw experts at random in training: every reward would be noise; set `policy.source` to a model "
        "of another type"
    )


def _settings(config: PretrainedConfig) -> Iterator[tuple[PretrainedConfig, str]]:
    """Where each of them stands."""
    if config.model_type in _SAMPLING:
        return
    for name, value in vars(config).items():
        if isinstance(value, PretrainedConfig):
            yield from _settings(value)
        elif _NAME.search(name) and not _OTHER_HEADS.search(name) and _is_rate(value):
            yield config, name


def _is_rate(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
