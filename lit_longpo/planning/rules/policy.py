"""The policy and its reference: parts that cannot be trained or copied here, copies and settings for nothing."""

from dataclasses import replace

from transformers import PretrainedConfig

from lit_longpo.errors import UserError
from lit_longpo.planning.inputs.architecture import find_config
from lit_longpo.planning.inputs.configuration import Configuration
from lit_longpo.planning.rules import by_fit
from lit_longpo.policy.reference.config import copy_problem
from lit_longpo.policy.rope import temperature_problem
from lit_longpo.policy.trainable import check_training
from lit_longpo.policy.weights.dropout import sampling_problem


def random_routing(config: PretrainedConfig, run: Configuration) -> str | None:
    """A policy whose routers draw experts at random in training."""
    return by_fit(sampling_problem(config))


def scaled_reference(config: PretrainedConfig, run: Configuration) -> str | None:
    """A reference at original positions beside attention that has the policy's temperature."""
    if not run.objective.views.reference_alone or run.policy.rope is None or run.reference.policy is not None:
        return None
    original, _ = find_config(replace(run.policy, rope=None), run.options.shape)
    return by_fit(temperature_problem(config, original))


def untrainable(run: Configuration) -> str | None:
    """Weights or settings of a policy that cannot be trained."""
    try:
        check_training(run.policy, run.sharding.split)
    except UserError as error:
        return by_fit(str(error))
    return None


def layer_kernels(run: Configuration) -> str | None:
    """Liger's kernels without a GPU."""
    if run.policy.layer_kernels != "liger" or run.on_gpu:
        return None
    return by_fit("`policy.layer_kernels: liger` needs a GPU; type --policy.layer_kernels null")


def flash(run: Configuration) -> str | None:
    """Flash attention where it does not run."""
    if run.policy.attention != "flash" or run.flash:
        return None
    return "`policy.attention: flash` needs a GPU and bf16 or fp16; `fit` refuses it here"


def reference_split(run: Configuration) -> str | None:
    """A reference that needs a copy of a policy that is split."""
    if not run.objective.views.reference or not run.sharding.splits_parameters:
        return None
    return by_fit(copy_problem(run.reference, run.policy))


def reference_copy(run: Configuration) -> str | None:
    """A copy for the reference that the policy without its adapters could stand for, or a cache."""
    if not run.objective.views.reference:
        return None
    online = run.reference.mode == "online"
    if run.reference.policy == replace(run.policy, lora=None) and run.policy.reference_is_inside:
        return "`reference.policy` is the policy without its adapters, which are switched off anyway: remove it"
    if online and run.policy.trained_lora is not None and not run.policy.reference_is_inside:
        because = "adapters are continued" if run.policy.continues_adapters else "`policy.lora.also_train` changes more"
        return f"{because}, so `reference.mode: online` also holds a frozen copy of what is trained"
    if online and run.policy.trained_lora is None:
        return "`reference.mode: online` without adapters holds a frozen copy of the whole model; `cached` needs none"
    return None


def reference_unused(run: Configuration) -> str | None:
    """A reference policy beside an objective that has no reference."""
    if run.objective.views.reference or run.reference.policy is None:
        return None
    return f"{type(run.objective).__name__} has no reference: `reference.policy` is never loaded"
