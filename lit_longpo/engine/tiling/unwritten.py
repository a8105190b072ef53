"""Linear maps that take their place in autograd's graph and compute nothing, because nobody reads their values.

A module that is run again for its gradients does not need its output, and no gradient needs that of the map which
makes it: the gradient of a product asks for its factors. An MLP's last product is a third of its forward, or a sixth.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.pytorch_utils import Conv1D

Map = nn.Linear | Conv1D

# What torch makes of a linear map; of frozen weights a product of one batch.
_PRODUCTS = (torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.bmm.default)


def with_last_maps(
    module: nn.Module, function: Callable[..., Tensor], tensors: Sequence[Tensor]
) -> tuple[Tensor, list[Map]]:
    """`function(*tensors)`, and the maps whose values are read by nobody if its output is not.

    Args:
        module: whose parts the function runs.
        function: to be run; no branch of it asks for its output's value.
        tensors: its arguments.

    Returns:
        The output. The map that returns it; of a LoRA layer its own map, and what goes up from the low rank. None
        where anything else comes last, or the module runs other code (`layer_kernels.py`).
    """
    if "layer_kernel" in vars(module):
        return function(*tensors), []
    last, calls = list[tuple[nn.Module, Tensor, int]](), Counter[nn.Module]()

    def note(part: nn.Module, given: Any, output: Tensor) -> None:
        last[:] = [(part, output, output._version)]
        calls[part] += 1

    handles = [part.register_forward_hook(note) for part in module.modules() if _is_map(part) or _is_lora(part)]
    try:
        output = function(*tensors)
    finally:
        for handle in handles:
            handle.remove()
    is_last = [part for part, value, version in last if value is output and version == output._version]
    return output, [made for part in is_last for made in _maps(part) if calls[made] == 1]


@contextmanager
def unwritten(maps: Sequence[Map]) -> Iterator[None]:
    """Inside the block, these return one number as it is found, for all; gradients are those of inputs and weights."""
    for part in maps:
        part.forward = partial(_without_product, part.forward)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for part in maps:
            del part.forward


def _without_product(forward: Callable[..., Tensor], *given: Any, **named: Any) -> Tensor:
    with _Unwritten():
        return forward(*given, **named)


class _Unwritten(TorchDispatchMode):
    """Below autograd and autocast: they have done their part when a product is asked for."""

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _PRODUCTS:
            left, right = args[-2:]
            return left.new_empty(()).expand(*left.shape[:-1], right.shape[-1])
        return func(*args, **(kwargs or {}))


def _is_map(part: nn.Module) -> bool:
    """A linear map of dense weights, be they a plan's, by its class's own code."""
    return type(part) in (nn.Linear, Conv1D) and type(part.weight) in (nn.Parameter, FakeTensor) and _is_untouched(part)


def _is_lora(part: nn.Module) -> bool:
    """PEFT's layer of the formula W x + s B A x; its variants (DoRA) read what W gives."""
    is_lora = (type(part).__module__, type(part).__name__) == ("peft.tuners.lora.layer", "Linear")
    return is_lora and not getattr(part, "lora_variant", True) and _is_untouched(part)


def _is_untouched(part: nn.Module) -> bool:
    """Whether its output is what its class computes: hooks and replaced forwards may read that, or return another."""
    hooks = part._forward_hooks or torch.nn.modules.module._global_forward_hooks
    return "forward" not in vars(part) and not hooks


def _maps(part: nn.Module) -> list[Any]:
    parts = [part] if _is_map(part) else [part.get_submodule("base_layer"), *part.get_submodule("lora_B").children()]
    return [each for each in parts if _is_map(each)]
