"""What autograd recomputes in backward instead of keeping."""

from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts
from transformers import PreTrainedModel

from lit_longpo.errors import InputError
from lit_longpo.policy.offloading import offload_inputs

Checkpointing = bool | Literal["keep_attention", "offload"]

# What attends, on every backend; parts of names, because flash-attn's operators exist only where it is installed.
_ATTENTION = ("_scaled_dot_product", "flash_attention", "efficient_attention", "varlen_attn", "flash_attn")


def enable_checkpointing(model: PreTrainedModel, how: Checkpointing = True) -> None:
    """Recompute each layer in backward, non-reentrant (the reentrant kind drops the segment table).

    Offloading moves nothing without a GPU: the layers' inputs are in host memory.

    Raises:
        InputError: transformers cannot recompute its layers.
    """
    if not model.supports_gradient_checkpointing:
        raise InputError(
            f"expected no `policy.gradient_checkpointing` for {type(model).__name__}, whose layers transformers cannot "
            f"recompute, got {how}; type --policy.gradient_checkpointing false"
        )
    options: dict[str, Any] = {"use_reentrant": False}
    if how == "keep_attention":
        options["context_fn"] = attention_kept
    # transformers renamed this in 5.2x and will remove the old name in 6.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable(options)
    begin_graph(model)
    if how == "offload":
        offload_inputs(model)


def begin_graph(model: PreTrainedModel) -> None:
    """Let layers that are recomputed have an input that requires gradients, also where embeddings are frozen.

    transformers and peft make what embeddings give a leaf: CTRL and GIT, which write on it, end in an error, and it
    would hold a gradient.
    """
    model.disable_input_require_grads()
    embeddings = model.get_input_embeddings()
    if _begun not in embeddings._forward_hooks.values():
        embeddings.register_forward_hook(_begun)


def _begun(embeddings: nn.Module, inputs: Any, hidden: Tensor) -> Tensor:
    if hidden.requires_grad or not torch.is_grad_enabled():
        return hidden
    anchor = torch.zeros((), device=hidden.device, requires_grad=True)
    return cast(Tensor, cast(Any, _Begun.apply)(hidden, anchor))


class _Begun(torch.autograd.Function):
    """A tensor that requires gradients from here on, which go no further."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, anchor: Tensor) -> Tensor:
        ctx.mark_dirty(hidden)
        return hidden

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None]:
        return None, None


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
