"""Finds out on a few numbers how an optimizer uses gradients, which its class does not say."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Any]

# Packages; a step of the last one's is compiled for half a minute.
_OF_PLAIN_GRADIENTS = ("torch.", "lit_longpo.", "bitsandbytes.", "deepspeed.", "torchao.")
# Raised by steps that cannot be taken here (one for GPUs alone asserts that it is on one): a trial says nothing then.
_FAILED = (RuntimeError, ValueError, TypeError, AssertionError, AttributeError, LookupError)
_STEPS, _SHAPE, _BORDER = 12, (4, 3), 5  # of a trial; where a tensor is cut in two
_DIFFERENCE = 1e-4  # of the largest change of a number; by rounding alone it is 1e-7


def needs_graph(make: OptimizerFactory) -> bool:
    """Whether it goes by the gradient's graph, as second-order ones do: without it a step fails, with it none does."""
    if type(make([nn.Parameter(torch.ones(1, 1))])).__module__.startswith(_OF_PLAIN_GRADIENTS):
        return False
    return not _steps(make, create_graph=False) and _steps(make, create_graph=True)


def _steps(make: OptimizerFactory, *, create_graph: bool) -> bool:
    weights = nn.Parameter(torch.ones(2, 2))
    optimizer = make([weights])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Using backward.. with create_graph=True")
        weights.square().sum().backward(create_graph=create_graph)
    try:
        _step(optimizer)
    except _FAILED:
        return False
    return True


def goes_by_others(make: OptimizerFactory) -> bool:
    """Whether a number's update depends on other numbers, of its tensor or of all; then slices are updated otherwise.

    `False` also where that is not known: of an optimizer that draws by chance, or that takes no tensors of a CPU.
    """
    draw = torch.Generator().manual_seed(0)
    # Small weights: rates that are found out (Prodigy) begin with steps that those of size 1 would round away.
    start, pull = 1e-3 * torch.randn(_SHAPE, generator=draw), torch.randn(_SHAPE, generator=draw)
    gradients = [pull + 0.3 * torch.randn(_SHAPE, generator=draw) for _ in range(_STEPS)]
    try:
        whole, again = (_trained(make, start, gradients) for _ in range(2))
    except _FAILED:
        return False
    if not torch.equal(whole, again):
        return False
    cut = [slice(0, _BORDER), slice(_BORDER, None)]
    try:
        parts = [_trained(make, start.flatten()[each], [g.flatten()[each] for g in gradients]) for each in cut]
    except _FAILED:  # it takes matrices alone
        return True
    difference = float((torch.cat(parts).view(_SHAPE) - whole).abs().max())
    return difference > _DIFFERENCE * float((whole - start).abs().max())


def _trained(make: OptimizerFactory, start: Tensor, gradients: Sequence[Tensor]) -> Tensor:
    """What becomes of a parameter. Shape: as `start`."""
    weights = nn.Parameter(start.clone())
    optimizer = make([weights])
    for gradient in gradients:
        weights.grad = gradient.clone()
        _step(optimizer)
    return weights.detach()


def _step(optimizer: Optimizer) -> None:
    optimizer.step(lambda: 1.0)
