"""Precision, clipping and learning rate: updates that are lost, cast twice or too large."""

from pathlib import Path

import torch

from lit_longpo.planning.inputs.configuration import Configuration
from lit_longpo.planning.rules import by_fit
from lit_longpo.policy import LoRA
from lit_longpo.policy.locations import EMBEDDED
from lit_longpo.training.precision import CASTS, precision_problem, trained_dtype

_LARGEST_RATE = 1e-5  # of Adam's kind, where every weight is trained


def half_on_cpu(run: Configuration) -> str | None:
    """Half-precision weights on a CPU."""
    if run.on_gpu or run.dtype == torch.float32:
        return None
    return f"{run.dtype} weights on a CPU are many times slower than float32 where it lacks AVX-512 or AMX"


def _trained_lora(run: Configuration) -> LoRA | None:
    """Settings of the adapters that are trained, those of a folder among them; the hub is not asked."""
    return run.policy.trained_lora if Path(run.policy.source).expanduser().is_dir() else run.policy.lora


def lost_updates(run: Configuration) -> str | None:
    """Weights or adapters of half precision that are trained without a master copy."""
    lora = _trained_lora(run)
    if run.sharding.kind == "zero" or trained_dtype(run.policy.dtype, run.precision, lora) == "float32":
        return None
    trained, instead = "every weight", "float32 weights, or LoRA"
    if lora is not None and run.precision in CASTS:
        trained, instead = "every adapter", "or type --trainer.precision 32-true, under which adapters are fp32"
    elif lora is not None:
        trained, instead = "what `policy.lora.also_train` names", "float32 weights, or LoRA alone"
    return (
        f"{trained} is trained in {run.dtype} without an fp32 master copy: updates below 1/256 of a weight round to "
        f"nothing, at small learning rates nearly all; take a DeepSpeed overlay with `precision: bf16-true`, {instead}"
    )


def learning_rate(run: Configuration) -> str | None:
    """A learning rate for adapters on every weight of a pretrained model."""
    pretrained = run.policy.source != EMBEDDED and run.policy.weights == "pretrained"
    defaults = run.optimization.defaults
    if _trained_lora(run) is not None or not pretrained or "betas" not in defaults or defaults["lr"] <= _LARGEST_RATE:
        return None
    return (
        f"lr {defaults['lr']:g} trains all weights of a pretrained model, which forgets what it knows above "
        f"{_LARGEST_RATE:g}; type --optimization.optimizer.init_args.lr 1e-6, or train adapters (`policy.lora`)"
    )


def precisions_differ(run: Configuration) -> str | None:
    """Precisions under which policy and reference would differ."""
    lora = _trained_lora(run)
    problem = precision_problem(
        run.policy.dtype,
        run.precision,
        deepspeed=run.sharding.kind == "zero",
        trains_weights=lora is None or bool(lora.also_train),
    )
    return by_fit(problem)


def mixed(run: Configuration) -> str | None:
    """Mixed precision over weights that are halved already."""
    if run.autocast is None or run.policy.torch_dtype == torch.float32:
        return None
    return f"`precision: {run.precision}` casts fp32 weights for products; `policy.dtype` has halved them already"


def clipping(run: Configuration) -> str | None:
    """Clipping that is refused under a strategy, or clips nothing."""
    by_value = run.trainer.get("gradient_clip_algorithm") == "value"
    if by_value and run.sharding.kind in ("zero", "fsdp2"):
        return f"clipping by value is refused under {run.sharding.kind}; set `gradient_clip_algorithm: norm`"
    if run.trainer.get("gradient_clip_algorithm") and not run.trainer.get("gradient_clip_val"):
        return "`gradient_clip_algorithm` without `gradient_clip_val` clips nothing"
    return None
