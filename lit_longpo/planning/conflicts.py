"""Settings that cancel each other, that the start-up checks would refuse, or that cost more than they seem to.

Every rule is a function from the configuration to a message; no message means nothing to say.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from jsonargparse import Namespace
from transformers import PretrainedConfig

from lit_longpo.engine.degrees import heads_problem
from lit_longpo.errors import InputError, UserError
from lit_longpo.export import is_merged
from lit_longpo.planning.configuration import Configuration, read_configuration
from lit_longpo.policy import LoRA
from lit_longpo.policy.locations import EMBEDDED
from lit_longpo.policy.reference_config import copy_problem
from lit_longpo.policy.rope import window_problem
from lit_longpo.policy.trainable import check_training
from lit_longpo.policy.weights.dropout import chance_problem
from lit_longpo.strategies import mesh_problem
from lit_longpo.training.precision import precision_problem

_LARGEST_RATE = 1e-5  # of Adam's kind, where every weight is trained

Rule = Callable[[Configuration], str | None]
ModelRule = Callable[[PretrainedConfig, Configuration], str | None]


def conflicts(run: Configuration, config: PretrainedConfig) -> list[str]:
    """Every rule's message, worst first as listed in this module."""
    messages = [rule(config, run) for rule in MODEL_RULES] + [rule(run) for rule in RULES]
    return [message for message in messages if message is not None]


def start_warnings(config: Namespace) -> list[str]:
    """What `fit` says before it loads anything: every rule but for what it refuses, measures or says itself.

    Args:
        config: of `fit`, as the command line has parsed it.
    """
    try:
        run = read_configuration(config)
    except InputError as error:  # a strategy that is none of ours may train all the same
        return [f"settings are not compared: {error}"]
    messages = [rule(run) for rule in RULES if rule not in _NOT_AT_START]
    return [message for message in messages if message is not None]


def _by_fit(problem: str | None) -> str | None:
    """What is said of a problem that `fit` ends with."""
    return problem and f"`fit` refuses this: {problem}"


def _degree(config: PretrainedConfig, run: Configuration) -> str | None:
    problem = heads_problem(config, run.sharding.sequence_parallel, run.sharding.world_size)
    return _by_fit(problem)


def _chance(config: PretrainedConfig, run: Configuration) -> str | None:
    return _by_fit(chance_problem(config))


def _window(config: PretrainedConfig, run: Configuration) -> str | None:
    longest = min(run.row().long_tokens, run.data.max_length or run.row_tokens)
    return window_problem(max(longest, run.data.target_length), config)


def _devices(run: Configuration) -> str | None:
    if run.devices_known:
        return None
    return "`trainer.devices` is auto and no accelerator is here to count: planned for 1; type --trainer.devices 8"


def _alone(run: Configuration) -> str | None:
    if run.sharding.world_size > 1 or run.sharding.kind not in ("zero", "fsdp2"):
        return None
    return (
        f"one device: {run.sharding.kind} splits nothing and pays for its buffers; raise `trainer.devices`, or "
        "drop the strategy"
    )


def _offload_stage(run: Configuration) -> str | None:
    if run.sharding.offload_parameters and run.sharding.stage != 3:
        return f"`offload_parameters` needs ZeRO stage 3; in stage {run.sharding.stage} it does nothing"
    return None


def _offload_on_cpu(run: Configuration) -> str | None:
    if run.policy.gradient_checkpointing == "offload" and not run.on_gpu:
        return "`gradient_checkpointing: offload` on a CPU only recomputes: the host is where activations are already"
    if (run.sharding.offload_optimizer or run.sharding.offload_parameters) and not run.on_gpu:
        return "offloading to host memory on a CPU moves nothing"
    return None


def _deepspeed_checkpointing(run: Configuration) -> str | None:
    names = [name for name in ("cpu_checkpointing", "partition_activations") if run.strategy_options.get(name)]
    if not names:
        return None
    return f"{' and '.join(names)} has no effect: layers are recomputed by `policy.gradient_checkpointing`"


def _mesh(run: Configuration) -> str | None:
    if run.sharding.kind != "fsdp2" or not run.devices_known:
        return None
    world, nodes = run.sharding.world_size, int(run.trainer.get("num_nodes") or 1)
    data, tensor = (run.strategy_options.get(f"{name}_parallel_size", "auto") for name in ("data", "tensor"))
    problem = mesh_problem(nodes if data == "auto" else data, world // nodes if tensor == "auto" else tensor, world)
    return _by_fit(problem)


def _reference_split(run: Configuration) -> str | None:
    if not run.objective.views.reference or not run.sharding.splits_parameters:
        return None
    return _by_fit(copy_problem(run.reference, run.policy))


def _optimizer(run: Configuration) -> str | None:
    split = f"ZeRO-{run.sharding.stage}" if run.sharding.kind == "zero" else run.sharding.split
    on_host = run.sharding.offload_optimizer or not run.on_gpu
    problem = run.optimization.placement_problem("cpu" if on_host else None, split)
    problem = problem or run.optimization.accumulation_problem(run.accumulate)
    return _by_fit(problem)


def _untrainable(run: Configuration) -> str | None:
    try:
        check_training(run.policy, run.sharding.split)
    except UserError as error:
        return _by_fit(str(error))
    return None


def _layer_kernels(run: Configuration) -> str | None:
    if run.policy.layer_kernels != "liger" or run.on_gpu:
        return None
    return _by_fit("`policy.layer_kernels: liger` needs a GPU; type --policy.layer_kernels null")


def _no_model_saved(run: Configuration) -> str | None:
    callbacks = run.trainer.get("callbacks") or []
    listed = callbacks if isinstance(callbacks, list) else [callbacks]
    saves = any(str(one.get("class_path")).rpartition(".")[2] == "SavePretrained" for one in listed)
    if not saves or not run.sharding.splits_parameters or not is_merged(run.policy):
        return None
    return (
        "`SavePretrained` writes no model: adapters cannot be merged while the policy is split; remove it, and after "
        "`fit` type: python -m lit_longpo export --checkpoint PATH --output FOLDER"
    )


def _reference_copy(run: Configuration) -> str | None:
    if not run.objective.views.reference:
        return None
    online = run.reference.mode == "online"
    if run.reference.policy == replace(run.policy, lora=None) and run.policy.reference_is_inside:
        return "`reference.policy` is the policy without its adapters, which need only be switched off: remove it"
    if online and run.policy.trained_lora is not None and not run.policy.reference_is_inside:
        because = "adapters are continued" if run.policy.continues_adapters else "`policy.lora.also_train` changes more"
        return f"{because}, so `reference.mode: online` holds a frozen copy beside of what is trained"
    if online and run.policy.trained_lora is None:
        return "`reference.mode: online` without adapters holds a frozen copy of the whole model; `cached` needs none"
    return None


def _reference_unused(run: Configuration) -> str | None:
    if run.objective.views.reference or run.reference.policy is None:
        return None
    return f"{type(run.objective).__name__} has no reference: `reference.policy` is never loaded"


def _half_on_cpu(run: Configuration) -> str | None:
    if run.on_gpu or run.dtype == torch.float32:
        return None
    return f"{run.dtype} weights on a CPU are many times slower than float32 where it lacks AVX-512 or AMX"


def _trained_lora(run: Configuration) -> LoRA | None:
    """Settings of the adapters that are trained, those of a folder among them; the hub is not asked."""
    return run.policy.trained_lora if Path(run.policy.source).expanduser().is_dir() else run.policy.lora


def _lost_updates(run: Configuration) -> str | None:
    lora = _trained_lora(run)
    whole, parts = lora is None, bool(lora and lora.also_train)
    if run.dtype == torch.float32 or run.sharding.kind == "zero" or not (whole or parts):
        return None
    trained = "every weight" if whole else "what `policy.lora.also_train` names"
    return (
        f"{trained} is trained in {run.dtype} without an fp32 master copy: updates below 1/256 of a weight "
        "round to nothing, at small learning rates nearly all; take a DeepSpeed overlay with `precision: bf16-true`, "
        f"float32 weights, or LoRA{'' if whole else ' alone'}"
    )


def _learning_rate(run: Configuration) -> str | None:
    pretrained = run.policy.source != EMBEDDED and run.policy.weights == "pretrained"
    defaults = run.optimization.defaults
    if _trained_lora(run) is not None or not pretrained or "betas" not in defaults or defaults["lr"] <= _LARGEST_RATE:
        return None
    return (
        f"lr {defaults['lr']:g} for every weight of a pretrained model: above {_LARGEST_RATE:g} they forget what they "
        "know; type --optimization.optimizer.init_args.lr 1e-6, or train adapters (`policy.lora`)"
    )


def _true_positions(run: Configuration) -> str | None:
    if not run.objective.synthesises_positions or run.data.synthesises_positions:
        return None
    return (
        f"{type(run.objective).__name__} is made for synthesised positions, and has none: it trains at the length of "
        "the data alone; set `data.init_args.positions`, for example {target_length: 65536}"
    )


def _precisions_differ(run: Configuration) -> str | None:
    lora = _trained_lora(run)
    problem = precision_problem(
        run.policy.dtype,
        run.precision,
        deepspeed=run.sharding.kind == "zero",
        trains_weights=lora is None or bool(lora.also_train),
    )
    return _by_fit(problem)


def _mixed(run: Configuration) -> str | None:
    if run.autocast is None or run.policy.torch_dtype == torch.float32:
        return None
    return f"`precision: {run.precision}` casts fp32 weights for products; `policy.dtype` has halved them already"


def _clipping(run: Configuration) -> str | None:
    by_value = run.trainer.get("gradient_clip_algorithm") == "value"
    if by_value and run.sharding.kind in ("zero", "fsdp2"):
        return f"clipping by value is refused under {run.sharding.kind}; set `gradient_clip_algorithm: norm`"
    if run.trainer.get("gradient_clip_algorithm") and not run.trainer.get("gradient_clip_val"):
        return "`gradient_clip_algorithm` without `gradient_clip_val` clips nothing"
    return None


def _flash(run: Configuration) -> str | None:
    if run.policy.attention != "flash" or run.flash:
        return None
    return "`policy.attention: flash` needs a GPU and bf16 or fp16; `fit` refuses it here"


def _sharing(run: Configuration) -> str | None:
    if run.data.prefix_sharing:
        return None
    row = run.row()
    shared, apart = (replace(row, prefix_sharing=sharing).num_tokens for sharing in (True, False))
    if shared == apart:
        return None
    return f"`prefix_sharing: false` computes {apart / shared:.1f} times the tokens of shared prompts"


def _together(run: Configuration) -> str | None:
    if run.data.share_prompts != "together":
        return None
    return (
        f"`share_prompts: together` fills a row of {run.row_tokens:,} tokens with more examples than the "
        f"{run.row().num_examples} counted here, each with a prompt of its own: as many FLOPs in the layers, more "
        "scored tokens, and on a GPU a copy of the shared keys and values for each answer; `max_examples` bounds both"
    )


def _budget(run: Configuration) -> str | None:
    length, longest = run.data.max_length, run.longest
    row = run.row()
    if longest is not None:
        needed = replace(row, num_examples=1, long_tokens=longest.prompt).num_tokens
        if needed <= run.row_tokens:
            return None
        return (
            f"an example of the data ({longest.source}) takes {needed:,} tokens, a row holds {run.row_tokens:,}: "
            "`fit` stops at it; raise `data.init_args.max_tokens`, or cut contexts with `max_length`"
        )
    needed = replace(row, num_examples=1, long_tokens=max(1, (length or 0) - row.response_tokens)).num_tokens
    if length is None or needed <= run.row_tokens:
        return None
    return (
        f"an example of `max_length` {length:,} takes {needed:,} tokens with its other responses, a row holds "
        f"{run.row_tokens:,}: `fit` stops at it; raise `data.init_args.max_tokens`"
    )


def _accumulation(run: Configuration) -> str | None:
    if run.accumulate == 1 or run.sharding.kind != "zero" or run.sharding.stage < 2:
        return None
    return (
        f"ZeRO-{run.sharding.stage} reduces gradients after each of the {run.accumulate} accumulated rows; "
        "longer rows (`data.init_args.max_tokens`) and less accumulation communicate less"
    )


def refusal(run: Configuration, config: PretrainedConfig) -> str | None:
    """Why this is not to be run, whatever its data: `fit` refuses it, or it would train nothing."""
    messages = [_degree(config, run), _chance(config, run), *(rule(run) for rule in _REFUSALS)]
    return next((message for message in messages if message is not None), None)


MODEL_RULES: tuple[ModelRule, ...] = (_degree, _chance, _window)
RULES: tuple[Rule, ...] = (
    _devices,
    _budget,
    _flash,
    _clipping,
    _lost_updates,
    _learning_rate,
    _true_positions,
    _precisions_differ,
    _mesh,
    _reference_split,
    _untrainable,
    _layer_kernels,
    _optimizer,
    _no_model_saved,
    _alone,
    _offload_stage,
    _offload_on_cpu,
    _deepspeed_checkpointing,
    _reference_copy,
    _reference_unused,
    _half_on_cpu,
    _mixed,
    _sharing,
    _together,
    _accumulation,
)
_REFUSALS = (
    _clipping,
    _lost_updates,
    _precisions_differ,
    _mesh,
    _reference_split,
    _untrainable,
    _layer_kernels,
    _optimizer,
    _offload_stage,
)
_NOT_AT_START = (
    _devices,
    _budget,
    _flash,
    _precisions_differ,
    _mesh,
    _reference_split,
    _untrainable,
    _layer_kernels,
    _optimizer,
    _half_on_cpu,
    _sharing,
)
