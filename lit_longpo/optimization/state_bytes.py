"""Bytes of an optimizer's states and of what a step borrows, from two steps on fake tensors.

An optimizer whose compiled step reads memory itself (DeepSpeed's on CPUs) is tried on real ones: fake ones have none.
"""

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lit_longpo.live_bytes import LiveBytes
from lit_longpo.optimization.kinds import check_countable, optimizer_of
from lit_longpo.optimization.quantized import SMALLEST_PAGED, is_paged, prepare
from lit_longpo.optimization.trials import OptimizerFactory

_VECTOR = (2**20,)  # what an optimizer is tried on
_NO_MEMORY = "Cannot access data pointer"  # torch's words of a fake tensor


@dataclass(frozen=True)
class OptimizerBytes:
    """What an optimizer takes.

    Args:
        states: kept between steps.
        borrowed: peak inside a step.
        paged: part of the states that may lie in host memory.
    """

    states: float
    borrowed: float
    paged: float = 0.0


class _AssumedNumbers(TorchDispatchMode):
    """A fake tensor's value, where an optimizer goes by it: 1. No size follows from it."""

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        try:
            return func(*args, **(kwargs or {}))
        except DataDependentOutputException:
            return 1.0


def optimizer_bytes(
    make: OptimizerFactory, dtype: torch.dtype, shape: tuple[int, ...] = _VECTOR, *, embedding: bool = False
) -> OptimizerBytes:
    """Bytes per parameter, from two steps on a tensor of this shape.

    States of an embedding are never quantised.

    Raises:
        InputError: the optimizer does not take such a tensor, or its states go on growing.
    """
    with torch._functorch.config.patch(fake_tensor_allow_unsafe_data_ptr_access=False):
        fake = FakeTensorMode(allow_non_fake_inputs=True)  # the optimizer's own tables, made outside of it, are real
    try:
        return _two_steps(make, fake, dtype, shape, embedding)
    except RuntimeError as error:
        if _NO_MEMORY not in str(error):
            raise
    return _two_steps(make, nullcontext(), dtype, shape, embedding)


def _two_steps(
    make: OptimizerFactory,
    mode: AbstractContextManager[Any],
    dtype: torch.dtype,
    shape: tuple[int, ...],
    embedding: bool,
) -> OptimizerBytes:
    with mode:
        parameter = nn.Parameter(torch.zeros(shape, dtype=dtype))
        parameter.grad = torch.zeros_like(parameter)
    optimizer, numel = optimizer_of(make, [parameter]), parameter.numel()
    check_countable(optimizer)
    prepare(optimizer, [parameter] if embedding else [])
    with mode, _AssumedNumbers(), LiveBytes() as memory, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Paged optimizers are not supported on CPU")
        for tensor in (parameter, parameter.grad):
            memory.add(tensor)
        start = memory.live
        for tensor in tree_leaves(dict(optimizer.state)):  # Adagrad makes its own before the first step
            if isinstance(tensor, Tensor):
                memory.add(tensor)
        optimizer.step()
        states = memory.live - start
        memory.restart()
        optimizer.step()
        borrowed = memory.peak - start - states
    paged = states if is_paged(optimizer) and numel >= SMALLEST_PAGED else 0
    return OptimizerBytes(states / numel, borrowed / numel, paged / numel)
