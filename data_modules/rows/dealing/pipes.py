"""Sends what worker processes make through pipes instead of /dev/shm.

Torch hands tensors over in shared memory. Where that is full, and containers have 64 MB of it, a worker fails behind
the back of the loader, which then waits for ever. A row has some 50 bytes for a token, so that a pipe is fast enough.
"""

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import get_worker_info

from lit_longpo.errors import StorageError
from lit_longpo.files.storing import room_problem

_SHARED = Path("/dev/shm")
_LOCKS = 1 << 16  # bytes; locks between processes lie there, too, and take pages of it


class Piped:
    """A function whose results come through a pipe, where a worker calls it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *arguments: Any) -> Any:
        """The function's result; in a worker, its pickle, which is loaded where it arrives."""
        result = self.function(*arguments)
        return result if get_worker_info() is None else _Pickled(result)


class _Pickled:
    def __init__(self, content: Any) -> None:
        self.content = content

    def __reduce__(self) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
        buffer = io.BytesIO()
        _Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(self.content)
        return pickle.loads, (buffer.getvalue(),)


class _Pickler(pickle.Pickler):
    """Tensors as arrays of bytes."""

    def reducer_override(self, value: Any) -> Any:
        return (torch.from_numpy, (value.numpy(),)) if isinstance(value, torch.Tensor) else NotImplemented


def check_room_for_workers(num_workers: int) -> None:
    """Refuse workers where there is no room for the locks between them.

    Raises:
        StorageError: /dev/shm is full.
    """
    problem = room_problem(_SHARED, _LOCKS) if num_workers and _SHARED.is_dir() else None
    if problem is not None:
        raise StorageError(
            f"expected room for the locks of {num_workers} workers, {problem}; empty it (in a container: docker run "
            "--shm-size 1g), or type --data.num_workers 0"
        )
