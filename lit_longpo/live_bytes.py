"""Bytes of the tensors that are alive, counted as operators make them and the last reference goes."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class LiveBytes(TorchDispatchMode):
    """Inside the block, counts the storages behind every operator's results; views count once.

    Serves real and fake tensors alike. What a kernel allocates and frees inside itself is not seen.

    Attributes:
        live: bytes alive now.
        peak: most bytes alive since `restart`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live, self.peak = 0, 0
        self._sizes: dict[int, int] = {}
        self._times = 1

    def add(self, tensor: torch.Tensor) -> None:
        """Count a tensor that was made outside the block, or that an operator returned."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = size = storage.nbytes() * self._times
        self.live += size
        if self._times == 1:
            self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._free, key)

    def restart(self) -> int:
        """Start a new peak from what is alive now; returns the old peak."""
        peak, self.peak = self.peak, self.live
        return peak

    @contextmanager
    def repeated(self, times: int) -> Iterator[None]:
        """What is made inside the block and outlives it counts as made so often; what goes at once raises no peak."""
        before, self._times = self._times, times
        try:
            yield
        finally:
            self._times = before
            self.peak = max(self.peak, self.live)

    def _free(self, key: int) -> None:
        self.live -= self._sizes.pop(key)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:  # nothing is compiled here; torch would wrap every call
        return False

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.prim.device.default and isinstance(args[0], FakeTensor):
            return args[0].fake_device  # autograd asks twice as often for it as it computes
        result = func(*args, **(kwargs or {}))
        for value in (result,) if isinstance(result, torch.Tensor) else tree_iter(result):
            if isinstance(value, torch.Tensor):
                self.add(value)
        return result
