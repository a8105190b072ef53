"""Random states in a checkpoint, so that dropout goes on where it stopped."""

import logging
import random
from typing import Any

import numpy as np
import torch

log = logging.getLogger(__name__)

RandomState = dict[str, Any]


def draw_apart(rank: int) -> None:
    """Let ranks draw masks of their own from now on; the first goes on as it would alone.

    Until here they draw alike, as weights have to be made alike; masks that are the same on all ranks would be as good
    as those of one.
    """
    if rank:
        torch.manual_seed(torch.initial_seed() + (rank << 32))  # beyond every seed that a run can have


def gather_random_states() -> list[RandomState]:
    """The state of every rank, in the order of ranks; a collective call.

    Tensors and plain values only, which load with `weights_only`.
    """
    states: list[Any] = [_random_state()]
    if torch.distributed.is_initialized():
        local, states = states[0], [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(states, local)
    return [{**state, **{name: _tensor(state[name]) for name in ("torch", "cuda")}} for state in states]


def restore_random_state(states: list[RandomState], rank: int, world_size: int) -> None:
    """Go on with this rank's state; a word of warning if there were other ranks."""
    if len(states) != world_size:
        log.warning(
            "random states of %d processes cannot be restored in %d: dropout draws anew", len(states), world_size
        )
        return
    state = states[rank]
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"])


def _random_state() -> RandomState:
    """Python's, NumPy's and torch's states as plain values: tensors do not travel well between processes."""
    name, keys, *rest = np.random.get_state()
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return {
        "python": random.getstate(),
        "numpy": (name, [int(key) for key in keys], *rest),
        "torch": torch.get_rng_state().tolist(),
        "cuda": None if cuda is None else cuda.tolist(),
    }


def _tensor(values: list[int] | None) -> torch.Tensor | None:
    return None if values is None else torch.tensor(values, dtype=torch.uint8)
