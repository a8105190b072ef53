"""Layer inputs in host memory from forward to backward, copied while the GPU computes.

Copies run on a stream of their own: out while the next layers are computed, and back one layer ahead of
backward. So two layer inputs are on the device at a time, and the device waits only where a layer computes
faster than the bus copies its input.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

_LEAST_BYTES = 2**20  # smaller tensors stay where they are


class CudaTransfers:
    """Copies to and from pinned host memory on a stream of their own."""

    def __init__(self) -> None:
        self._stream = cache(torch.cuda.Stream)  # made where it is first needed: one for each device

    def offloads(self, tensor: Tensor) -> bool:
        """Whether a tensor is offloaded: a large one on a GPU, but no weight."""
        return tensor.is_cuda and not isinstance(tensor, nn.Parameter) and tensor.nbytes >= _LEAST_BYTES

    def to_host(self, tensor: Tensor) -> Tensor:
        """Start the copy to the host; when it is complete, the device's memory is free."""
        stream = self._stream(tensor.device)
        stream.wait_stream(torch.cuda.current_stream(tensor.device))
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        with torch.cuda.stream(stream):
            host.copy_(tensor, non_blocking=True)
        tensor.record_stream(stream)
        return host

    def prefetch(self, host: Tensor, device: torch.device) -> tuple[Tensor, torch.cuda.Event]:
        """Start the copy back to the device, behind all earlier copies, also that to the host.

        Returns:
            The copy, and the event at which it is complete.
        """
        stream = self._stream(device)
        with torch.cuda.stream(stream):
            tensor = host.to(device, non_blocking=True)
            return tensor, stream.record_event()

    def waited_for(self, tensor: Tensor, arrived: torch.cuda.Event) -> Tensor:
        """The copy, for which the computing stream waits; the host does not."""
        current = torch.cuda.current_stream(tensor.device)
        current.wait_event(arrived)
        tensor.record_stream(current)
        return tensor


@dataclass(eq=False)
class _Offloaded:
    """A saved tensor in host memory, and its copy on the device once that is prefetched."""

    host: Tensor
    device: torch.device
    back: tuple[Tensor, Any] | None = None


class LayerInputs:
    """Offloads what autograd saves inside `hooks`, and prefetches it one tensor ahead of backward."""

    def __init__(self, transfers: CudaTransfers) -> None:
        self._transfers = transfers
        self._offloaded: list[weakref.ref[_Offloaded]] = []  # weak: a graph without backward drops them

    def hooks(self) -> saved_tensors_hooks:
        """To be entered around what saves."""
        return saved_tensors_hooks(self._pack, self._unpack)

    def _pack(self, tensor: Tensor) -> Tensor | _Offloaded:
        if not self._transfers.offloads(tensor):
            return tensor
        offloaded = _Offloaded(self._transfers.to_host(tensor), tensor.device)
        self._offloaded.append(weakref.ref(offloaded))
        return offloaded

    def _unpack(self, packed: Tensor | _Offloaded) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        self._prefetch(packed)  # backward's first tensor; later ones are on their way already
        assert packed.back is not None
        # The device's copy is handed over: kept here, it would outlive the layer that asked for it.
        (tensor, arrived), packed.back = packed.back, None
        self._offloaded = [ref for ref in self._offloaded if ref() not in (None, packed)]
        # Backward asks in reverse: the last one still offloaded is next, and is copied while this layer is computed.
        following = self._offloaded[-1]() if self._offloaded else None
        if following is not None:
            self._prefetch(following)
        return self._transfers.waited_for(tensor, arrived)

    def _prefetch(self, offloaded: _Offloaded) -> None:
        if offloaded.back is None:
            offloaded.back = self._transfers.prefetch(offloaded.host, offloaded.device)


def offload_inputs(model: nn.Module, transfers: CudaTransfers | None = None) -> None:
    """Keep what the model's checkpointed layers save in host memory from forward to backward."""
    inputs = LayerInputs(transfers or CudaTransfers())
    for module in model.modules():
        checkpoint: Any = getattr(module, "_gradient_checkpointing_func", None)
        if checkpoint is not None:
            module._gradient_checkpointing_func = _inside(inputs, checkpoint)


def _inside(inputs: LayerInputs, checkpoint: Callable[..., Any]) -> Any:
    def offloaded(*args: Any, **kwargs: Any) -> Any:
        with inputs.hooks():
            return checkpoint(*args, **kwargs)

    return offloaded
