"""The load-balancing loss of routed experts (Switch Transformer, arXiv 2101.03961, equations 4 to 6).

    loss = E * sum_e f_e P_e

| symbol | meaning |
| --- | --- |
| E | experts of a layer |
| f_e | how often expert e is chosen, per token and layer |
| P_e | mean probability that routers give it, over tokens and layers |

transformers computes the same over padded rows. A packed row holds a prompt once, however many responses follow it,
and so it counts once; in separate rows it would count once for each. With one response per prompt both are equal.
Where one sequence is scored at a time, a prompt is computed for each of its responses and counts once all the same.

Where ranks share a row, sums run over all of them, and each rank comes to the same loss.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from lit_longpo.engine.attention import UnsupportedModelError
from lit_longpo.engine.decoder import decoder_of
from lit_longpo.engine.layers import model_class
from lit_longpo.engine.ulysses.sequence_parallel import sequence_ranks
from lit_longpo.errors import InputError


def check_routers(config: PretrainedConfig) -> None:
    """Refuse a model without a load-balancing loss that `balancing_loss` can compute; needs no weights."""
    cause = _problem(config)
    if cause is not None:
        raise InputError(
            f"expected a model whose routers are trained by a loss for `optimization.router_loss`, got one that "
            f"{cause} ({type(config).__name__}); type --optimization.router_loss 0"
        )


def router_coefficient(setting: float | str, config: PretrainedConfig) -> float:
    """The factor of the load-balancing loss: the given number, or the model's own for "model"."""
    return float(config.get_text_config().router_aux_loss_coef if setting == "model" else setting)


def _problem(config: PretrainedConfig) -> str | None:
    kind, text = model_class(config), config.get_text_config()
    if kind is None or not hasattr(text, "num_experts_per_tok"):
        return "has no routers"
    own = getattr(sys.modules[kind.__module__], "load_balancing_loss_func", None)
    if own is None or not hasattr(text, "router_aux_loss_coef"):
        return "balances its experts without a loss"
    if not _is_ours(own) or "router_logits" not in (getattr(kind, "_can_record_outputs", None) or {}):
        return "has a router loss of its own kind"
    return None


def _is_ours(function: Any) -> bool:
    """Whether a model's own loss function computes what `balancing_loss` does."""
    logits = [torch.linspace(-1.0, 1.0, 20).sin().mul(layer).view(5, 4) for layer in (3.0, 5.0)]
    expected = _balance(*_sums(logits, 2), rows=10)
    try:
        return bool(torch.isclose(torch.as_tensor(function(tuple(logits), 4, 2)), expected))
    except (TypeError, RuntimeError, IndexError, ValueError):  # it takes something else
        return False


def routers(model: PreTrainedModel) -> list[nn.Module]:
    """The modules that choose experts, in order; none if the model has no experts."""
    said = _recorder(model)
    kind, place = getattr(said, "target_class", said), getattr(said, "layer_name", None)
    if not isinstance(kind, type):
        return []
    if place is None:
        return [module for module in model.modules() if isinstance(module, kind)]
    named = [module for name, module in model.named_modules() if f".{name}".endswith(f".{place}")]
    return [module for module in named if isinstance(getattr(module, "base_layer", module), kind)]  # under an adapter


def _recorder(model: PreTrainedModel) -> Any:
    """What transformers says about where the logits of routers come from; `None` if it says nothing."""
    said = (getattr(part, "_can_record_outputs", None) or {} for part in (model, decoder_of(model)))
    return next((outputs["router_logits"] for outputs in said if "router_logits" in outputs), None)


@contextmanager
def recorded_logits(model: PreTrainedModel) -> Iterator[list[Tensor]]:
    """Inside the block, the logits of every router are noted, layer by layer. Shape of each: (tokens, E)."""
    index, logits = getattr(_recorder(model), "index", 0), list[Tensor]()

    def note(module: nn.Module, args: object, output: Any) -> None:
        logits.append(output[index] if isinstance(output, tuple) else output)

    hooks = [router.register_forward_hook(note) for router in routers(model)]
    try:
        yield logits
    finally:
        for hook in hooks:
            hook.remove()


def balancing_loss(model: PreTrainedModel, logits: Sequence[Tensor], num_tokens: int, copies: Tensor | None) -> Tensor:
    """The loss of a row.

    Args:
        model: whose routers they are.
        logits: of its layers; where ranks share the row, of this rank's tokens. Shape of each: (t, E).
        num_tokens: of the whole row, without padding.
        copies: how often each of them counts; `None` is once. Shape: (num_tokens,).

    Returns:
        Shape: ().

    Raises:
        UnsupportedModelError: the routers have not seen every token once.
    """
    ranks, config = sequence_ranks(), model.config.get_text_config()
    length = -(-num_tokens // ranks.size)
    if any(len(layer) != length for layer in logits) or not logits:
        raise UnsupportedModelError(
            f"expected {type(model).__name__} to route every token of a row once, got {len(logits)} layers of "
            f"{[len(layer) for layer in logits[:2]]} tokens for {length}; type --optimization.router_loss 0"
        )
    real = max(0, min(length, num_tokens - ranks.rank * length))
    first = ranks.rank * length
    own = None if copies is None else copies[first : first + real].unsqueeze(1)
    counted = num_tokens if copies is None else copies.sum()
    sums = _sums([layer[:real] for layer in logits], int(config.num_experts_per_tok), own)
    return _balance(*(ranks.total(part) for part in sums), rows=counted * len(logits))


def _sums(logits: Sequence[Tensor], num_chosen: int, copies: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """How often each expert is chosen, and its probabilities, over layers and tokens. Shape of each: (E,)."""
    chosen, probabilities = (logits[0].new_zeros(logits[0].shape[-1], dtype=torch.float32) for _ in range(2))
    for layer in logits:
        weights = layer.float().softmax(-1)
        choices = weights.detach().topk(num_chosen, dim=-1).indices
        counts = torch.ones_like(choices, dtype=torch.float32)
        if copies is not None:
            counts, weights = counts * copies, weights * copies
        chosen = chosen.scatter_add(0, choices.flatten(), counts.flatten())
        probabilities = probabilities + weights.sum(0)
    return chosen, probabilities


def _balance(chosen: Tensor, probabilities: Tensor, *, rows: int | Tensor) -> Tensor:
    return len(chosen) * (chosen / rows * probabilities / rows).sum()
