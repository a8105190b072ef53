"""Finds settings that conflict, that the start-up checks would refuse, or that cost more than they seem to.

Every rule of `rules` is a function from the configuration to a message; no message means nothing to say.
"""

from collections.abc import Callable
from enum import Flag, auto

from jsonargparse import Namespace
from transformers import PretrainedConfig

from lit_longpo.errors import InputError
from lit_longpo.planning.configuration import Configuration, read_configuration
from lit_longpo.planning.rules import devices, numbers, policy, rows

Rule = Callable[[Configuration], str | None]
ModelRule = Callable[[PretrainedConfig, Configuration], str | None]


def conflicts(run: Configuration, config: PretrainedConfig) -> list[str]:
    """Every rule's message, worst first as listed in this module."""
    messages = [rule(config, run) for rule in MODEL_RULES] + [rule(run) for rule in RULES]
    return [message for message in messages if message is not None]


def start_warnings(config: Namespace) -> list[str]:
    """The warnings that `fit` gives before it loads anything, without what it refuses, measures or says elsewhere."""
    try:
        run = read_configuration(config)
    except InputError as error:  # a strategy that is none of ours may train all the same
        return [f"settings are not compared: {error}"]
    messages = [rule(run) for rule, fate in RULES.items() if _Fate.TOLD not in fate]
    return [message for message in messages if message is not None]


def refusal(run: Configuration, config: PretrainedConfig) -> str | None:
    """Why a configuration cannot run whatever its data, because `fit` refuses it or it would train nothing."""
    messages = [rule(config, run) for rule, fate in MODEL_RULES.items() if _Fate.REFUSED in fate]
    messages += [rule(run) for rule, fate in RULES.items() if _Fate.REFUSED in fate]
    return next((message for message in messages if message is not None), None)


class _Fate(Flag):
    """What becomes of a rule's problem besides that a plan lists it."""

    WARNED = 0
    REFUSED = auto()  # nothing can be trained
    TOLD = auto()  # `fit` refuses, measures or says it elsewhere


MODEL_RULES: dict[ModelRule, _Fate] = {
    devices.degree: _Fate.REFUSED,
    policy.chance: _Fate.REFUSED,
    policy.scaled_reference: _Fate.REFUSED,
    rows.window: _Fate.WARNED,
}
RULES: dict[Rule, _Fate] = {
    devices.devices: _Fate.TOLD,
    rows.budget: _Fate.TOLD,
    policy.flash: _Fate.TOLD,
    numbers.clipping: _Fate.REFUSED,
    numbers.lost_updates: _Fate.REFUSED,
    numbers.learning_rate: _Fate.WARNED,
    rows.true_positions: _Fate.WARNED,
    numbers.precisions_differ: _Fate.REFUSED | _Fate.TOLD,
    devices.mesh: _Fate.REFUSED | _Fate.TOLD,
    policy.reference_split: _Fate.REFUSED | _Fate.TOLD,
    policy.untrainable: _Fate.REFUSED | _Fate.TOLD,
    policy.layer_kernels: _Fate.REFUSED | _Fate.TOLD,
    devices.optimizer: _Fate.REFUSED | _Fate.TOLD,
    devices.no_model_saved: _Fate.WARNED,
    devices.alone: _Fate.WARNED,
    devices.offload_stage: _Fate.REFUSED,
    devices.offload_on_cpu: _Fate.WARNED,
    devices.deepspeed_checkpointing: _Fate.WARNED,
    policy.reference_copy: _Fate.WARNED,
    policy.reference_unused: _Fate.WARNED,
    numbers.half_on_cpu: _Fate.TOLD,
    numbers.mixed: _Fate.WARNED,
    rows.sharing: _Fate.TOLD,
    rows.together: _Fate.TOLD,
    devices.accumulation: _Fate.WARNED,
}
