"""Processes that evaluate together: rank, world size, gathering of objects, the progress bar of the first."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch.distributed as dist

from lit_longpo.progress_bar import progress_bar

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


@contextmanager
def bar(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """Inside the block, call the result with the amount of work that was done; shown on the terminal of the first."""
    with progress_bar(percent=True, shown=rank() == 0) as progress:
        task = progress.add_task(name, total=total)
        yield lambda amount: progress.advance(task, amount)


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()
