"""What autograd recomputes in backward instead of keeping."""

import inspect
from typing import Any, Literal

import torch
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts
from transformers import PreTrainedModel

Checkpointing = bool | Literal["keep_attention", "offload"]

# What attends, on every backend; parts of names, because flash-attn's operators exist only where it is installed.
_ATTENTION = ("_scaled_dot_product", "flash_attention", "efficient_attention", "varlen_attn", "flash_attn")


def enable_checkpointing(model: PreTrainedModel, how: Checkpointing = True) -> None:
    """Recompute each layer in backward, non-reentrant (the reentrant kind drops the segment table).

    Args:
        model: a transformers model.
        how: as in `PolicyConfig`. Offloading does nothing without a GPU: the layers' inputs are in host memory.

    Raises:
        ImportError: transformers is too old to offload.
    """
    # transformers renamed this in 5.2x and will remove the old name in 6; offloading came with the new one.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    options: dict[str, Any] = {"use_reentrant": False}
    if how == "keep_attention":
        options["context_fn"] = attention_kept
    if how != "offload" or not torch.accelerator.is_available():
        enable(options)
        return
    if "offload" not in inspect.signature(enable).parameters:
        raise ImportError(
            "`gradient_checkpointing: offload` needs transformers 5.20 or newer; type: pip install -U transformers"
        )
    enable(options, offload=True)


def attention_kept() -> tuple[Any, Any]:
    """Contexts of `torch.utils.checkpoint` in which forward keeps what attends, and recomputing finds it."""
    return create_selective_checkpoint_contexts(_attention)


def _attention(context: Any, operator: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    """The one part of a layer whose time grows with the square of the length."""
    attends = any(part in operator.name() for part in _ATTENTION)
    return CheckpointPolicy.MUST_SAVE if attends else CheckpointPolicy.PREFER_RECOMPUTE
