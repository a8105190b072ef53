"""Finds settings that conflict, that the start-up checks would refuse, or that cost more than they seem to.

Every rule of `rules` is a function from the configuration to a message; no message means nothing to say.
"""

from collections.abc import Callable

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
    """The warnings that `fit` gives before it loads anything, without what it refuses, measures or says elsewhere.

    Args:
        config: of `fit`, as the command line has parsed it.
    """
    try:
        run = read_configuration(config)
    except InputError as error:  # a strategy that is none of ours may train all the same
        return [f"settings are not compared: {error}"]
    messages = [rule(run) for rule in RULES if rule not in _NOT_AT_START]
    return [message for message in messages if message is not None]


def refusal(run: Configuration, config: PretrainedConfig) -> str | None:
    """Why a configuration cannot run whatever its data, because `fit` refuses it or it would train nothing."""
    messages = [devices.degree(config, run), policy.chance(config, run), *(rule(run) for rule in _REFUSALS)]
    return next((message for message in messages if message is not None), None)


MODEL_RULES: tuple[ModelRule, ...] = (devices.degree, policy.chance, rows.window)
RULES: tuple[Rule, ...] = (
    devices.devices,
    rows.budget,
    policy.flash,
    numbers.clipping,
    numbers.lost_updates,
    numbers.learning_rate,
    rows.true_positions,
    numbers.precisions_differ,
    devices.mesh,
    policy.reference_split,
    policy.untrainable,
    policy.layer_kernels,
    devices.optimizer,
    devices.no_model_saved,
    devices.alone,
    devices.offload_stage,
    devices.offload_on_cpu,
    devices.deepspeed_checkpointing,
    policy.reference_copy,
    policy.reference_unused,
    numbers.half_on_cpu,
    numbers.mixed,
    rows.sharing,
    rows.together,
    devices.accumulation,
)
_REFUSALS = (
    numbers.clipping,
    numbers.lost_updates,
    numbers.precisions_differ,
    devices.mesh,
    policy.reference_split,
    policy.untrainable,
    policy.layer_kernels,
    devices.optimizer,
    devices.offload_stage,
)
_NOT_AT_START = (
    devices.devices,
    rows.budget,
    policy.flash,
    numbers.precisions_differ,
    devices.mesh,
    policy.reference_split,
    policy.untrainable,
    policy.layer_kernels,
    devices.optimizer,
    numbers.half_on_cpu,
    rows.sharing,
)
