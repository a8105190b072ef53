"""What is refused before DeepSpeed is set up: old versions, and configurations that overrule ours."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from packaging.version import Version

from lit_longpo.errors import InputError, MissingPackageError

_OLDEST = "0.19.2"  # 0.18.0 has accumulated gradients whose norm is 0.4 of the right one (DeepSpeed#7718, #7967)

# Parts of a DeepSpeed configuration that our own sections decide, with what to type instead.
_OURS = {
    "optimizer": "--optimization.optimizer.lr 1e-6",
    "scheduler": "--optimization.schedule cosine",
    "bf16": "--trainer.precision bf16-true --policy.dtype bfloat16",
    "fp16": "--trainer.precision 16-true --policy.dtype float16",
    "amp": "--trainer.precision bf16-true --policy.dtype bfloat16",
    "gradient_accumulation_steps": "--trainer.accumulate_grad_batches 8",
    "train_batch_size": "--data.max_tokens 8192",
    "gradient_clipping": "--trainer.gradient_clip_val 1.0",
    "train_micro_batch_size_per_gpu": "--data.max_tokens 8192",
}
_NUMBERS = ("gradient_clipping", "train_micro_batch_size_per_gpu")  # compared with ours, or without effect


def refuse_beside_config(**given: bool) -> None:
    """Refuse arguments that the user's own configuration would silently overrule."""
    names = [f"`{name}`" for name, stated in given.items() if stated]
    if names:
        raise InputError(
            "expected `trainer.strategy.init_args.config` to say stage and offloading alone (its `zero_optimization`), "
            f"got {' and '.join(names)} beside it; remove {' and '.join(names)}, or `config`"
        )


def check_version() -> None:
    """Refuse a DeepSpeed whose ZeRO-2 silently trains on wrong gradients where rows are accumulated."""
    try:
        found = version("deepspeed")
    except PackageNotFoundError:  # Lightning says so
        return
    if Version(found) < Version(_OLDEST):
        raise MissingPackageError(
            f"expected DeepSpeed {_OLDEST} or newer, got {found}, whose ZeRO-2 loses gradients of accumulated rows; "
            f'type: pip install "deepspeed>={_OLDEST}"'
        )


def check_config(config: Mapping[str, Any]) -> None:
    """Refuse settings that DeepSpeed would silently prefer to ours, or ignore, and stages that split nothing."""
    taken = [name for name in _OURS if _decides(name, config.get(name))]
    if taken:
        names = " and ".join(f"`{name}`" for name in taken)
        raise InputError(
            "expected a DeepSpeed configuration that leaves optimizer, schedule, precision, clipping and numbers of "
            f"rows to `optimization`, `trainer` and `data`, got {names} in it; remove {names}, and type "
            f"{' '.join(dict.fromkeys(_OURS[name] for name in taken))}"
        )
    stage = (config.get("zero_optimization") or {}).get("stage", 0)
    if stage not in (1, 2, 3):
        raise InputError(
            f"expected `zero_optimization.stage` 1, 2 or 3 in the DeepSpeed configuration, got {stage!r}, which splits "
            "nothing; set it, or type --config configs/overlays/ddp.yaml in place of --trainer.strategy"
        )


def _decides(name: str, value: Any) -> bool:
    """Whether this part of a configuration has an effect."""
    if name in _NUMBERS:
        return isinstance(value, str)  # "auto" is for other trainers to fill in
    return value is not None and not (isinstance(value, Mapping) and value.get("enabled") is False)
