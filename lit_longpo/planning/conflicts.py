"""Finds settings that conflict, that the start-up checks would refuse, or that cost more than they seem to.

Every rule of `rules` is a function from the configuration to a message; no message means nothing to say.
"""

from collections.abc import Callable
from enum import Flag, auto

from jsonargparse import Namespace
from transformers import PretrainedConfig

from lit_longpo.errors import InputError
from lit_longpo.planning.inputs.configuration import Configuration, read_configuration
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
    messages = [rule(run) for rule, outcome in RULES.items() if _Outcome.TOLD not in outcome]
    return [message for message in messages if message is not None]


def refusal(run: Configuration, config: PretrainedConfig) -> str | None:
    """Why a configuration cannot run whatever its data, because `fit` refuses it or it would train nothing."""
    messages = [rule(config, run) for rule, outcome in MODEL_RULES.items() if _Outcome.REFUSED in outcome]
    messages += [rule(run) for rule, outcome in RULES.items() if _Outcome.REFUSED in outcome]
    return next((message for message in messages if message is not None), None)


class _Outcome(Flag):
    """What becomes of a rule's problem besides that a plan lists it."""

    WARNED = 0
    REFUSED = auto()  # nothing can be trained
    TOLD = auto()  # `fit` refuses, measures or says it elsewhere


MODEL_RULES: dict[ModelRule, _Outcome] = {
    devices.degree: _Outcome.REFUSED,
    policy.random_routing: _Outcome.REFUSED,
    policy.scaled_reference: _Outcome.REFUSED,
    rows.window: _Outcome.WARNED,
}
RULES: dict[Rule, _Outcome] = {
    devices.devices: _Outcome.TOLD,
    rows.budget: _Outcome.TOLD,
    policy.flash: _Outcome.TOLD,
    numbers.clipping: _Outcome.REFUSED,
    numbers.lost_updates: _Outcome.REFUSED,
    numbers.learning_rate: _Outcome.WARNED,
    rows.true_positions: _Outcome.WARNED,
    numbers.precisions_differ: _Outcome.REFUSED | _Outcome.TOLD,
    devices.mesh: _Outcome.REFUSED | _Outcome.TOLD,
    policy.reference_split: _Outcome.REFUSED | _Outcome.TOLD,
    policy.untrainable: _Outcome.REFUSED | _Outcome.TOLD,
    policy.layer_kernels: _Outcome.REFUSED | _Outcome.TOLD,
    devices.optimizer: _Outcome.REFUSED | _Outcome.TOLD,
    devices.no_model_saved: _Outcome.WARNED,
    devices.alone: _Outcome.WARNED,
    devices.offload_stage: _Outcome.REFUSED,
    devices.offload_on_cpu: _Outcome.WARNED,
    devices.deepspeed_checkpointing: _Outcome.WARNED,
    policy.reference_copy: _Outcome.WARNED,
    policy.reference_unused: _Outcome.WARNED,
    numbers.half_on_cpu: _Outcome.TOLD,
    numbers.mixed: _Outcome.WARNED,
    rows.sharing: _Outcome.TOLD,
    rows.together: _Outcome.TOLD,
    devices.accumulation: _Outcome.WARNED,
}
