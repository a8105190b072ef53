"""Settings that cancel each other, that the start-up checks would refuse, or that cost more than they seem to.

Every rule is a function from the setting to a message; no message means nothing to say.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from transformers import PretrainedConfig

from lit_longpo.engine import feasible_degrees
from lit_longpo.engine.degrees import head_counts
from lit_longpo.engine.support import refusal
from lit_longpo.export import is_merged
from lit_longpo.objectives.precision import precision_problem
from lit_longpo.planning.setting import Setting

Rule = Callable[[Setting], str | None]
ModelRule = Callable[[PretrainedConfig, Setting], str | None]


def conflicts(setting: Setting, config: PretrainedConfig) -> list[str]:
    """Every rule's message, worst first as listed in this module."""
    found = [rule(config, setting) for rule in MODEL_RULES] + [rule(setting) for rule in RULES]
    return [message for message in found if message is not None]


def _refused(config: PretrainedConfig, setting: Setting) -> str | None:
    cause = refusal(config.get_text_config())
    return cause and f"`fit` refuses this model: {cause}"


def _degree(config: PretrainedConfig, setting: Setting) -> str | None:
    degree = setting.sharding.sequence_parallel
    heads, kv_heads = head_counts(config)
    feasible = feasible_degrees(heads, kv_heads, setting.sharding.world_size)
    if degree in feasible:
        return None
    return f"{heads} query and {kv_heads} key/value heads cannot be split over {degree} devices; possible: {feasible}"


def _window(config: PretrainedConfig, setting: Setting) -> str | None:
    window = getattr(config.get_text_config(), "max_position_embeddings", None)
    positions = setting.data.get("positions")
    longest = min(setting.row().long_tokens, setting.data.get("max_length") or setting.row_tokens)
    reach = max(longest, (positions or {}).get("target_length") or 0)
    if window is None or reach <= window:
        return None
    return (
        f"positions reach {reach:,}, the model was made for {window:,}; set `policy.rope` (theta, or type yarn, and "
        "max_length) or lower `data.init_args.max_length`"
    )


def _devices(setting: Setting) -> str | None:
    if setting.devices_known:
        return None
    return "`trainer.devices` is auto and no accelerator is here to count: planned for 1; type --trainer.devices 8"


def _alone(setting: Setting) -> str | None:
    if setting.sharding.world_size > 1 or setting.sharding.kind not in ("zero", "fsdp2"):
        return None
    return (
        f"one device: {setting.sharding.kind} splits nothing and pays for its buffers; raise `trainer.devices`, or "
        "drop the strategy"
    )


def _offload_stage(setting: Setting) -> str | None:
    if setting.sharding.offload_parameters and setting.sharding.stage != 3:
        return f"`offload_parameters` needs ZeRO stage 3; in stage {setting.sharding.stage} it does nothing"
    return None


def _offload_on_cpu(setting: Setting) -> str | None:
    if setting.policy.gradient_checkpointing == "offload" and not setting.on_gpu:
        return "`gradient_checkpointing: offload` on a CPU only recomputes: the host is where activations are already"
    if (setting.sharding.offload_optimizer or setting.sharding.offload_parameters) and not setting.on_gpu:
        return "offloading to host memory on a CPU moves nothing"
    return None


def _deepspeed_checkpointing(setting: Setting) -> str | None:
    names = [name for name in ("cpu_checkpointing", "partition_activations") if setting.strategy_options.get(name)]
    if not names:
        return None
    return f"{' and '.join(names)} has no effect: layers are recomputed by `policy.gradient_checkpointing`"


def _mesh(setting: Setting) -> str | None:
    if setting.sharding.kind != "fsdp2" or not setting.devices_known:
        return None
    world, nodes = setting.sharding.world_size, int(setting.trainer.get("num_nodes") or 1)
    data, tensor = (setting.strategy_options.get(f"{name}_parallel_size", "auto") for name in ("data", "tensor"))
    sizes = (nodes if data == "auto" else data, world // nodes if tensor == "auto" else tensor)
    if sizes == (world, 1):
        return None
    where = "--trainer.strategy.init_args"
    return (
        f"`fit` refuses a mesh of {sizes[0]} data-parallel x {sizes[1]} tensor-parallel ranks on {world} devices; type "
        f"{where}.data_parallel_size {world} {where}.tensor_parallel_size 1"
    )


def _reference_split(setting: Setting) -> str | None:
    online = bool(setting.objective.views.reference) and setting.reference.mode == "online"
    inside = setting.reference.policy is not None or setting.policy.reference_is_inside
    if not online or inside or not setting.sharding.splits_parameters:
        return None
    return "`fit` refuses `reference.mode: online` here: a split policy cannot be copied; type --reference.mode cached"


def _no_model_saved(setting: Setting) -> str | None:
    callbacks = setting.trainer.get("callbacks") or []
    listed = callbacks if isinstance(callbacks, list) else [callbacks]
    saves = any(str(one.get("class_path")).rpartition(".")[2] == "SavePretrained" for one in listed)
    if not saves or not setting.sharding.splits_parameters or not is_merged(setting.policy):
        return None
    return (
        "`SavePretrained` writes no model: adapters cannot be merged while the policy is split; remove it, and after "
        "`fit` type: python -m lit_longpo export --checkpoint PATH --output FOLDER"
    )


def _reference_copy(setting: Setting) -> str | None:
    if not setting.objective.views.reference:
        return None
    online = setting.reference.mode == "online"
    if setting.reference.policy == replace(setting.policy, lora=None) and setting.policy.reference_is_inside:
        return "`reference.policy` is the policy without its adapters, which need only be switched off: remove it"
    if online and setting.policy.lora is not None and not setting.policy.reference_is_inside:
        return "`policy.lora.also_train` changes base weights, so `reference.mode: online` holds a frozen copy beside"
    if online and setting.policy.lora is None:
        return "`reference.mode: online` without adapters holds a frozen copy of the whole model; `cached` needs none"
    return None


def _reference_unused(setting: Setting) -> str | None:
    if setting.objective.views.reference or setting.reference.policy is None:
        return None
    return f"{type(setting.objective).__name__} has no reference: `reference.policy` is never loaded"


def _half_on_cpu(setting: Setting) -> str | None:
    if setting.on_gpu or setting.dtype == torch.float32:
        return None
    return f"{setting.dtype} weights on a CPU are many times slower than float32 where it lacks AVX-512 or AMX"


def _lost_updates(setting: Setting) -> str | None:
    half = setting.dtype != torch.float32
    if not half or setting.policy.lora is not None or setting.sharding.kind == "zero":
        return None
    return (
        f"every weight is trained in {setting.dtype} without an fp32 master copy: updates below 1/256 of a weight "
        "round to nothing; take a DeepSpeed overlay with `precision: bf16-true`, float32 weights, or LoRA"
    )


def _precisions_differ(setting: Setting) -> str | None:
    zero = setting.sharding.kind == "zero"
    problem = precision_problem(
        setting.policy.dtype,
        setting.precision,
        deepspeed=zero,
        trains_weights=not setting.policy.reference_is_inside,
    )
    return problem and f"`fit` refuses this: {problem}"


def _mixed(setting: Setting) -> str | None:
    if setting.autocast is None or setting.policy.torch_dtype == torch.float32:
        return None
    return f"`precision: {setting.precision}` casts fp32 weights for products; `policy.dtype` has halved them already"


def _clipping(setting: Setting) -> str | None:
    by_value = setting.trainer.get("gradient_clip_algorithm") == "value"
    if by_value and setting.sharding.kind in ("zero", "fsdp2"):
        return f"clipping by value is refused under {setting.sharding.kind}; set `gradient_clip_algorithm: norm`"
    if setting.trainer.get("gradient_clip_algorithm") and not setting.trainer.get("gradient_clip_val"):
        return "`gradient_clip_algorithm` without `gradient_clip_val` clips nothing"
    return None


def _flash(setting: Setting) -> str | None:
    if setting.policy.attention != "flash" or setting.flash:
        return None
    return "`policy.attention: flash` needs a GPU and bf16 or fp16; `fit` refuses it here"


def _sharing(setting: Setting) -> str | None:
    if setting.data.get("prefix_sharing", True):
        return None
    row = setting.row()
    shared, apart = (replace(row, prefix_sharing=sharing).num_tokens for sharing in (True, False))
    if shared == apart:
        return None
    return f"`prefix_sharing: false` computes {apart / shared:.1f} times the tokens of shared prompts"


def _budget(setting: Setting) -> str | None:
    length = setting.data.get("max_length")
    row = setting.row()
    needed = replace(row, num_examples=1, long_tokens=max(1, (length or 0) - row.response_tokens)).num_tokens
    if length is None or needed <= setting.row_tokens:
        return None
    return (
        f"an example of `max_length` {length:,} takes {needed:,} tokens with its other responses, a row holds "
        f"{setting.row_tokens:,}: `fit` stops at it; raise `data.init_args.max_tokens`"
    )


def _accumulation(setting: Setting) -> str | None:
    if setting.accumulate == 1 or setting.sharding.kind != "zero" or setting.sharding.stage < 2:
        return None
    return (
        f"ZeRO-{setting.sharding.stage} reduces gradients after each of the {setting.accumulate} accumulated rows; "
        "longer rows (`data.init_args.max_tokens`) and less accumulation communicate less"
    )


MODEL_RULES: tuple[ModelRule, ...] = (_refused, _degree, _window)
RULES: tuple[Rule, ...] = (
    _devices,
    _budget,
    _flash,
    _clipping,
    _lost_updates,
    _precisions_differ,
    _mesh,
    _reference_split,
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
    _accumulation,
)
