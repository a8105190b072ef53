"""Processes that evaluate together: rank, world size, and gathering of objects."""

from typing import TypeVar

import torch.distributed as dist

Item = TypeVar("Item")


def rank() -> int:
    """Rank of this process; 0 if it is alone."""
    return dist.get_rank() if _together() else 0


def world_size() -> int:
    """Processes that evaluate together."""
    return dist.get_world_size() if _together() else 1


def gather(item: Item) -> list[Item]:
    """The objects of all processes by rank, on every process."""
    if world_size() == 1:
        return [item]
    items: list[Item | None] = [None] * world_size()
    dist.all_gather_object(items, item)
    return items  # type: ignore[return-value]


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()
