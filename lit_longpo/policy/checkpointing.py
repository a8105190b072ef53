"""What autograd recomputes in backward instead of keeping."""

from typing import Any, Literal

from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts
from transformers import PreTrainedModel

from lit_longpo.policy.offloading import offload_inputs

Checkpointing = bool | Literal["keep_attention", "offload"]

# What attends, on every backend; parts of names, because flash-attn's operators exist only where it is installed.
_ATTENTION = ("_scaled_dot_product", "flash_attention", "efficient_attention", "varlen_attn", "flash_attn")


def enable_checkpointing(model: PreTrainedModel, how: Checkpointing = True) -> None:
    """Recompute each layer in backward, non-reentrant (the reentrant kind drops the segment table).

    Args:
        model: a transformers model.
        how: as in `PolicyConfig`. Offloading moves nothing without a GPU: the layers' inputs are in host memory.
    """
    options: dict[str, Any] = {"use_reentrant": False}
    if how == "keep_attention":
        options["context_fn"] = attention_kept
    # transformers renamed this in 5.2x and will remove the old name in 6.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable(options)
    if how == "offload":
        offload_inputs(model)


def recomputes_all(how: Checkpointing) -> bool:
    """Whether memory comes before time; then rows are tiled as soon as that saves any."""
    return how is True or how == "offload"


def attention_kept() -> tuple[Any, Any]:
    """Contexts of `torch.utils.checkpoint` in which forward keeps what attends, and recomputing finds it."""
    return create_selective_checkpoint_contexts(_attention)


def _attention(context: Any, operator: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    """The one part of a layer whose time grows with the square of the length."""
    attends = any(part in operator.name() for part in _ATTENTION)
    return CheckpointPolicy.MUST_SAVE if attends else CheckpointPolicy.PREFER_RECOMPUTE
