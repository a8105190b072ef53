"""Checks what an objective's `loss` returns: one loss per example, and metrics of the same shape."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lit_longpo.batch import Scores
from lit_longpo.errors import InputTypeError


def checked_losses(objective: str, given: Any, policy: Scores) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Losses and metrics as returned, checked: a scalar or (B, M) would broadcast, and train something else.

    Returns:
        Losses and metrics. Shape of each: (B,).

    Raises:
        InputTypeError: a shape is not (B,), the losses have no gradient, or a metric is called "loss".
    """
    told = f"expected {objective}.loss to return losses and a dictionary of metrics, each of shape (B,)"
    if not (isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], Mapping)):
        raise InputTypeError(f"{told}, got {type(given).__name__}; return losses, metrics")
    losses, metrics = given
    num_examples = len({slot.example for slot in policy.slots})
    for name, value in {"the loss": losses, **{f"the metric {key!r}": value for key, value in metrics.items()}}.items():
        if not isinstance(value, Tensor) or value.shape != (num_examples,):
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise InputTypeError(
                f"{told}, got {got} for {name} of {num_examples} examples; take no mean, and note that "
                "log-probabilities of rejected answers have the shape (B, M)"
            )
    if "loss" in metrics:
        raise InputTypeError(f"{told}, got one called 'loss', which would be trained in its place; call it otherwise")
    if torch.is_grad_enabled() and policy.sums.requires_grad and not losses.requires_grad:
        raise InputTypeError(f"{told}, got losses without a gradient; leave `detach`, `item` and `no_grad` out")
    return losses, metrics
