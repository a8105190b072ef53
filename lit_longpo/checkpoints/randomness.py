"""Random states in a checkpoint, so that dropout goes on where it stopped."""

import logging
import random
from typing import Any

import numpy as np
import torch

log = logging.getLogger(__name__)

RandomState = dict[str, Any]


def gather_random_states() -> list[RandomState]:
    """The state of every rank, in the order of ranks; a collective call."""
    own = _random_state()
    if not torch.distributed.is_initialized():
        return [own]
    states: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(states, own)
    return states


def restore_random_state(states: list[RandomState], rank: int, world_size: int) -> None:
    """Go on with this rank's state; a word of warning if there were other ranks.

    Args:
        states: what `gather_random_states` returned when the checkpoint was saved.
        rank: this rank.
        world_size: ranks now.
    """
    if len(states) != world_size:
        log.warning(
            "random states of %d processes cannot be restored in %d: dropout draws anew", len(states), world_size
        )
        return
    state = states[rank]
    random.setstate((state["python"][0], tuple(state["python"][1]), state["python"][2]))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy(), *rest))
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"])


def _random_state() -> RandomState:
    """Python's, NumPy's and torch's states as tensors and plain values, which load with `weights_only`."""
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, torch.tensor(keys), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }
