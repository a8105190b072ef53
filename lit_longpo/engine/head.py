"""The language-model head as a module that can also return log-probabilities, tile by tile.

Everything that touches the head's weight happens inside the module's call, so that the hooks of ZeRO-3
and FSDP gather the weight before forward and before backward, and free it after both.
"""

from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from lit_longpo.engine.attention import UnsupportedModelError
from lit_longpo.engine.log_probs import LogitTransform, token_log_probs
from lit_longpo.engine.tiling.tiles import autocast_dtype


class TiledHead(nn.Linear):
    """A linear head: logits as usual, or log-probabilities of targets without ever holding all logits."""

    def forward(self, hidden: Tensor, targets: Tensor | None = None, transform: LogitTransform | None = None) -> Any:
        """Logits of hidden states, or log-probabilities of targets.

        Args:
            hidden: Shape: (..., C), with targets (N, C).
            targets: token ids. Shape: (N,).
            transform: logit scale and soft-cap of the log-probabilities.

        Returns:
            Shape: (..., V), with targets (N,).
        """
        if targets is None:
            return nn.functional.linear(hidden, self.weight, self.bias)
        if autocast_dtype(hidden.device.type) is None:  # Mamba's states are fp32 whatever its weights, HY-V4's head is
            hidden = hidden.to(self.weight.dtype)
        return token_log_probs(hidden, self.weight, targets, bias=self.bias, transform=transform)


def tiled_head(model: PreTrainedModel) -> TiledHead:
    """The model's linear head, turned in place into a `TiledHead`; parameters and weight tying stay as they are.

    Raises:
        UnsupportedModelError: there is none, or an adapter sits on it (its share would be lost).
    """
    head = head_of(model)
    if not isinstance(head, TiledHead):
        raise UnsupportedModelError(f"{type(model).__name__}: its head is no plain linear map, {type(head).__name__}")
    return head


def head_of(model: PreTrainedModel) -> nn.Module:
    """The last linear map of a model, tiled if it is a plain one.

    Raises:
        UnsupportedModelError: an adapter sits on it.
    """
    check_head(model)
    head: nn.Module = model.get_output_embeddings()
    if type(head) is nn.Linear:
        head.__class__ = TiledHead
    return head


def check_head(model: PreTrainedModel) -> None:
    """Refuse adapters on the head."""
    head = model.get_output_embeddings()
    if type(head).__module__.partition(".")[0] == "peft":
        raise UnsupportedModelError(
            f"{type(model).__name__}: expected a plain linear head, got {type(head).__name__}; remove `lm_head` from "
            "the LoRA target modules (tiled log-probs read the head's weight directly)"
        )
