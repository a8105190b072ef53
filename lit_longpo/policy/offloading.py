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


class CudaCourier:
    """Copies from and to pinned memory on a stream of its own."""

    def __init__(self) -> None:
        self._stream = cache(torch.cuda.Stream)  # made where it is first needed: one for each device

    def takes(self, tensor: Tensor) -> bool:
        """A large one on a GPU, but no weight."""
        return tensor.is_cuda and not isinstance(tensor, nn.Parameter) and tensor.nbytes >= _LEAST_BYTES

    def send(self, tensor: Tensor) -> Tensor:
        """Start the way to the host; the copy may still be on it, and frees the device's memory when it is there."""
        stream = self._stream(tensor.device)
        stream.wait_stream(torch.cuda.current_stream(tensor.device))
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        with torch.cuda.stream(stream):
            host.copy_(tensor, non_blocking=True)
        tensor.record_stream(stream)
        return host

    def call(self, host: Tensor, device: torch.device) -> tuple[Tensor, torch.cuda.Event]:
        """Start the way back, behind all copies before it, its own way out among them."""
        stream = self._stream(device)
        with torch.cuda.stream(stream):
            tensor = host.to(device, non_blocking=True)
            return tensor, stream.record_event()

    def receive(self, tensor: Tensor, arrived: torch.cuda.Event) -> Tensor:
        """The copy, for which the computing stream waits; the host does not."""
        current = torch.cuda.current_stream(tensor.device)
        current.wait_event(arrived)
        tensor.record_stream(current)
        return tensor


@dataclass(eq=False)
class _Parcel:
    """A saved tensor that is away."""

    host: Tensor
    device: torch.device
    back: tuple[Tensor, Any] | None = None


class LayerInputs:
    """What autograd saves inside `hooks` is carried to the host, and called back one ahead of backward."""

    def __init__(self, courier: CudaCourier) -> None:
        self._courier = courier
        self._away: list[weakref.ref[_Parcel]] = []  # a graph that is dropped without backward drops its parcels

    def hooks(self) -> saved_tensors_hooks:
        """To be entered around what saves."""
        return saved_tensors_hooks(self._pack, self._unpack)

    def _pack(self, tensor: Tensor) -> Tensor | _Parcel:
        if not self._courier.takes(tensor):
            return tensor
        parcel = _Parcel(self._courier.send(tensor), tensor.device)
        self._away.append(weakref.ref(parcel))
        return parcel

    def _unpack(self, packed: Tensor | _Parcel) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        self._call(packed)  # backward's first tensor; later ones are on their way already
        assert packed.back is not None
        # The device's copy is handed over: kept here, it would outlive the layer that asked for it.
        (tensor, arrived), packed.back = packed.back, None
        self._away = [ref for ref in self._away if ref() not in (None, packed)]
        # Backward asks in reverse: the last one still away is the next, and travels while this layer is computed.
        following = self._away[-1]() if self._away else None
        if following is not None:
            self._call(following)
        return self._courier.receive(tensor, arrived)

    def _call(self, parcel: _Parcel) -> None:
        if parcel.back is None:
            parcel.back = self._courier.call(parcel.host, parcel.device)


def offload_inputs(model: nn.Module, courier: CudaCourier | None = None) -> None:
    """Carry what the model's checkpointed layers save to the host."""
    inputs = LayerInputs(courier or CudaCourier())
    for module in model.modules():
        checkpoint: Any = getattr(module, "_gradient_checkpointing_func", None)
        if checkpoint is not None:
            module._gradient_checkpointing_func = _inside(inputs, checkpoint)


def _inside(inputs: LayerInputs, checkpoint: Callable[..., Any]) -> Any:
    def offloaded(*args: Any, **kwargs: Any) -> Any:
        with inputs.hooks():
            return checkpoint(*args, **kwargs)

    return offloaded
