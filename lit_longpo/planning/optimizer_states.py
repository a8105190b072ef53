"""Bytes of the optimizer's states of a whole model, and of what a step borrows."""

from functools import partial

import torch
from torch import nn

from lit_longpo.errors import InputError
from lit_longpo.optimization.quantized import has_quantized_states
from lit_longpo.optimization.state_bytes import OptimizerBytes, optimizer_bytes
from lit_longpo.optimization.trials import OptimizerFactory
from lit_longpo.planning.sizes import ModelSizes

_MATRIX = (2**10, 2**10)  # of as many numbers as the vector that an optimizer is tried on


def optimizer_states(sizes: ModelSizes, make: OptimizerFactory) -> OptimizerBytes:
    """Bytes of a whole model's states, and those that a step borrows.

    An optimizer that treats numbers alike is tried on a vector, and may borrow for all of them at once (`foreach`);
    another one on each tensor, and borrows for one of them at a time, paged states too.

    Raises:
        InputError: as `optimizer_bytes`.
    """
    optimizer = make([nn.Parameter(torch.zeros(1, 1))])
    if not has_quantized_states(optimizer) and all(_treats_numbers_alike(make, dtype) for dtype in sizes.trained):
        taken = [(number, optimizer_bytes(make, dtype)) for dtype, number in sizes.trained.items()]
        return OptimizerBytes(*(sum(n * getattr(each, name) for n, each in taken) for name in ("states", "borrowed")))
    kinds = [
        (count * kind.numel, kind.numel, optimizer_bytes(make, kind.dtype, kind.shape, embedding=kind.embedding))
        for kind, count in sizes.trained_tensors.items()
    ]
    together = sum if optimizer.defaults.get("foreach") else partial(max, default=0.0)
    return OptimizerBytes(
        states=sum(number * each.states for number, _, each in kinds),
        borrowed=together(numel * (each.borrowed + each.paged) for _, numel, each in kinds),
        paged=sum(number * each.paged for number, _, each in kinds),
    )


def _treats_numbers_alike(make: OptimizerFactory, dtype: torch.dtype) -> bool:
    """Whether a matrix has as many bytes of states as a vector of as many numbers."""
    try:
        vector = optimizer_bytes(make, dtype)
    except InputError:  # it takes matrices alone
        return False
    return vector.states == optimizer_bytes(make, dtype, _MATRIX).states
