"""Finds out by computing whether a model in training mode gives the log-probabilities that it gives in eval mode.

Dropout that configurations name is switched off before a model is built (`policy/weights/dropout.py`). To find
randomness that no setting names, the start-up probe (`probe.py`) scores its row in training mode and compares it
with plain forwards in eval mode. If a random generator has moved meanwhile, something was drawn; since some models draw
numbers without any effect (OPT draws which layers to skip, at a rate of 0), other seeds are then tried. Adapters keep
the dropout that the user gave them (`policy.lora.dropout`); it is off during the check.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lit_longpo.engine.decoder import base_model
from lit_longpo.errors import InputError

_SEEDS = range(1, 9)  # one in ten layers left out by chance may be none, once or twice


class TrainingModeError(InputError):
    """A model's log-probabilities in training mode differ from those in eval mode."""


@contextmanager
def without_adapters_dropout(model: nn.Module) -> Iterator[None]:
    """Inside the block the adapters of a model in training mode drop nothing; afterwards the model trains again."""
    for layer in model.modules():
        if hasattr(layer, "base_layer"):
            for name, part in layer.named_children():
                if name != "base_layer":
                    part.eval()
    try:
        yield
    finally:
        model.train()


def scored_as_trained(model: nn.Module, score: Callable[[], Tensor]) -> Tensor:
    """What `score` gives, log-probabilities of a model in its present mode; random states are the same afterwards.

    Raises:
        TrainingModeError: the model is in training mode, and other random numbers give other values.
    """
    if not model.training:
        return score()
    device = next(model.parameters()).device
    with without_adapters_dropout(model), _kept_states(device):
        before = _states(device)
        values = score()
        if _states(device) != before and _chance_matters(score):
            raise TrainingModeError(
                f"expected a model that gives the same log-probabilities twice in training, got "
                f"{type(base_model(model)).__name__}, which draws random numbers there: every reward would be noise; "
                "set what draws them to 0 in its configuration, or `policy.source` to another model"
            )
    return values


def mode_error(model: nn.Module) -> TrainingModeError:
    """The error about a model whose log-probabilities are right in eval mode only."""
    return TrainingModeError(
        f"expected a model that gives the same log-probabilities in training as without, got "
        f"{type(base_model(model)).__name__}, which computes something else in training mode; set `policy.source` to "
        "another model"
    )


def _chance_matters(score: Callable[[], Tensor]) -> bool:
    """Whether other random numbers give other values; on GPUs by more than a repetition with the same numbers does."""
    first, again = (_seeded(0, score) for _ in range(2))
    unsteady = (first - again).abs().max()
    return any(bool((_seeded(seed, score) - first).abs().max() > 2 * unsteady) for seed in _SEEDS)


def _seeded(seed: int, score: Callable[[], Tensor]) -> Tensor:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    return score()


def _states(device: torch.device) -> list[Any]:
    """Of every generator that a forward may draw from, to be compared."""
    torchs = [torch.get_rng_state()]
    if device.type not in ("cpu", "meta"):
        torchs.append(torch.get_device_module(device).get_rng_state(device))
    numpys = [part.tolist() if isinstance(part, np.ndarray) else part for part in np.random.get_state()]
    return [*(state.numpy().tobytes() for state in torchs), random.getstate(), numpys]


@contextmanager
def _kept_states(device: torch.device) -> Iterator[None]:
    pythons, numpys = random.getstate(), np.random.get_state()
    others = [] if device.type in ("cpu", "meta") else [device]
    with torch.random.fork_rng(others, device_type=device.type if others else "cuda"):
        try:
            yield
        finally:
            random.setstate(pythons)
            np.random.set_state(numpys)
