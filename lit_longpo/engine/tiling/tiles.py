"""A module that treats tokens one by one, run on one slice of the row after another, forward and backward.

What such a module keeps for its own backward grows with tokens x channels inside it (an MLP: about 7 x intermediate
size). Here it keeps its input; backward runs each slice again and takes its gradients at once, so that one slice's
working set exists at a time. Values are the module's own, gradients are sums over the same tokens.

Two nodes of autograd share the work. The first saves the input, before anything is computed; the second computes and
saves nothing. So where a layer is recomputed in backward (activation checkpointing), recomputing ends at the first
node of its MLP: the module is run twice forward, as without tiles, and not three times.

Nobody reads the output of a slice's second run, so the linear map that makes it enters the graph without its product
(`unwritten.py`). So tiles cost no product more than recomputing without them, which ends before the last one, too; but
where a norm behind an MLP keeps its output (Gemma 2, OLMo 2), recomputing runs the module whole, and tiles once more.

Parameters are inputs of the first node: their gradients are added up over the slices (in fp32 if they are shorter) and
handed to autograd once, in the moment in which an untiled module's would be. So what waits for a parameter's gradient
(DDP's buckets, FSDP2's and ZeRO's reductions) fires once. Inside, `autograd.grad` fires nothing.

Why not DeepSpeed's `TiledMLP` and `SequenceTiledCompute`, which need no DeepSpeed engine but the package: they call
`autograd.backward` for each slice, so that a parameter's hooks fire once a slice. ZeRO is told to wait by an attribute
(`ds_grad_is_ready`); DDP takes the second call for an error and FSDP2 would reduce unfinished gradients. They add up
in the weights' precision, forget autocast and the generator's state (dropout), take one tensor that is sliced (experts
need three), compute three times under checkpointing, and their slices gather ZeRO-3's weights anew.

Shape legend: T tokens, n tokens of a slice.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import get_device_states, set_device_states

from lit_longpo.engine.tiling.unwritten import Map, unwritten, with_last_maps


def slices(num_tokens: int, size: int) -> Iterator[slice]:
    """Tiles of so many tokens, one after another; one at least, be it empty."""
    for start in range(0, max(num_tokens, 1), size):
        yield slice(start, start + size)


def token_dimension(tensor: Tensor) -> int:
    """The dimension of the tokens: 1 of a tensor (1, T, ...), 0 of one (T, C) whose batch is flattened away."""
    return 1 if tensor.ndim > 2 else 0


def autocast_dtype(device: str) -> torch.dtype | None:
    """Precision of products under autocast; `None` without."""
    able = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if able else None


def run_in_tiles(function: Callable[..., Tensor], module: nn.Module, tensors: Sequence[Tensor], size: int) -> Tensor:
    """`function(*tensors)`, so many tokens at a time.

    Args:
        function: treats tokens one by one, with the parameters of the module and no others; each tensor's gradient
            depends on its own token only.
        module: whose parameters it reads.
        tensors: with the same number of tokens. Shapes: (1, T, ...) or (T, C).
        size: n.

    Returns:
        Shape: as the function's, T tokens.
    """
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    work = _Work(function, module, parameters, size, _Circumstances.of(module, tensors[0]))
    if not torch.is_grad_enabled() or not (parameters or any(tensor.requires_grad for tensor in tensors)):
        return work.forward(tensors, followed=False)
    handle = _Inputs.apply(work, len(tensors), *tensors, *parameters)
    output: Tensor = _Outputs.apply(handle, work, [tensor.detach() for tensor in tensors])
    return output


@dataclass
class _Circumstances:
    """What a slice's second run has to find as its first did: precision, and the generators' state.

    Args:
        device: kind of device.
        autocast: precision of products under autocast; `None` without.
        generators: states of the CPU's and the devices' generators; `None` where nothing is drawn.
    """

    device: str
    autocast: torch.dtype | None
    generators: tuple[Tensor, Any, Any] | None

    @classmethod
    def of(cls, module: nn.Module, tensor: Tensor) -> "_Circumstances":
        kind = tensor.device.type
        draws = module.training and any(True for _ in module.children())  # a norm draws nothing
        states = (torch.get_rng_state(), *get_device_states(tensor)) if draws else None
        return cls(kind, autocast_dtype(kind), states)

    def precision(self) -> AbstractContextManager[object]:
        """Autocast as it was; without its cache, which would keep casts that were made without gradients."""
        if not torch.amp.is_autocast_available(self.device):
            return nullcontext()
        if self.autocast is None:
            return torch.autocast(self.device, enabled=False)
        return torch.autocast(self.device, self.autocast, cache_enabled=False)

    def again(self) -> AbstractContextManager[object]:
        """Precision and generators as they were; the generators go on after it where they are now."""
        stack = ExitStack()
        if self.generators is not None:
            host, devices, states = self.generators
            kind = "cuda" if self.device == "cpu" else self.device
            stack.enter_context(torch.random.fork_rng(devices, device_type=kind))
            torch.set_rng_state(host)
            set_device_states(devices, states, device_type=self.device if devices else None)
        stack.enter_context(self.precision())
        return stack


@dataclass(eq=False)
class _Work:
    """One call of a module, from its forward to its backward.

    Args:
        function: the module's own forward.
        module: whose.
        parameters: those that are trained.
        size: tokens of a slice.
        circumstances: of the forward.
        last: maps whose products only make the output.
        gradient: of the output, on its way from the second node to the first.
    """

    function: Callable[..., Tensor]
    module: nn.Module
    parameters: list[nn.Parameter]
    size: int
    circumstances: _Circumstances
    last: list[Map] = field(default_factory=list, init=False)
    gradient: Tensor | None = field(default=None, init=False)

    def forward(self, tensors: Sequence[Tensor], *, followed: bool) -> Tensor:
        """The whole output, written slice by slice; if a backward follows, with a look at what comes last."""
        output: Tensor | None = None
        with self.circumstances.precision():
            for start, parts in self._slices(tensors):
                if output is None and followed:
                    made, self.last = with_last_maps(self.module, self.function, parts)
                else:
                    made = self.function(*parts)
                if output is None:
                    output = _with_tokens(made, _num_tokens(tensors[0]))
                dimension = token_dimension(made)
                output.narrow(dimension, start, made.shape[dimension]).copy_(made)
        assert output is not None
        return output

    def backward(self, tensors: Sequence[Tensor], needed: Sequence[bool]) -> list[Tensor | None]:
        """Gradients of the tensors and of the parameters, by running every slice again."""
        gradient, self.gradient = self.gradient, None
        assert gradient is not None
        wanted = needed[: len(tensors)]
        totals = [torch.empty_like(t) if want else None for t, want in zip(tensors, wanted, strict=True)]
        with self.circumstances.again(), _added_up(self.parameters) as sums:
            for start, parts in self._slices(tensors):
                parts = [part.detach().requires_grad_(want) for part, want in zip(parts, wanted, strict=True)]
                self._add_slice(parts, gradient, start, totals)
        sums.reverse()  # each is gone before the next is rounded
        return [*totals, *(sums.pop().to(parameter.dtype) for parameter in self.parameters)]

    def _add_slice(self, parts: list[Tensor], gradient: Tensor, start: int, totals: list[Tensor | None]) -> None:
        with torch.enable_grad(), unwritten(self.last):
            made = self.function(*parts)
        asked = [part for part in parts if part.requires_grad]
        arrived = _narrow(gradient, start, _num_tokens(made)).to(made.dtype)
        found = iter(torch.autograd.grad(made, [*asked, *self.parameters], arrived, allow_unused=True))
        for total, part in zip(totals, parts, strict=True):
            if total is not None:
                _write(total, start, part, next(found))

    def _slices(self, tensors: Sequence[Tensor]) -> Iterator[tuple[int, list[Tensor]]]:
        for part in slices(_num_tokens(tensors[0]), self.size):
            yield part.start, [_narrow(tensor, part.start, self.size) for tensor in tensors]


def _num_tokens(tensor: Tensor) -> int:
    return tensor.shape[token_dimension(tensor)]


def _narrow(tensor: Tensor, start: int, size: int) -> Tensor:
    return tensor.narrow(token_dimension(tensor), start, min(size, _num_tokens(tensor) - start))


def _with_tokens(part: Tensor, num_tokens: int) -> Tensor:
    shape = list(part.shape)
    shape[token_dimension(part)] = num_tokens
    return part.new_empty(shape)


def _write(total: Tensor, start: int, part: Tensor, found: Tensor | None) -> None:
    place = _narrow(total, start, _num_tokens(part))
    if found is None:
        place.zero_()
    else:
        place.copy_(found)


@contextmanager
def _added_up(parameters: Sequence[nn.Parameter]) -> Iterator[list[Tensor]]:
    """Inside the block, sums of the parameters' gradients; a slice's is gone as soon as it is added."""
    sums = [torch.zeros(p.shape, dtype=accumulation_dtype(p.dtype), device=p.device) for p in parameters]
    hooks = [p.register_hook(partial(_add, total)) for p, total in zip(parameters, sums, strict=True)]
    try:
        yield sums
    finally:
        for hook in hooks:
            hook.remove()


def _add(total: Tensor, gradient: Tensor) -> Tensor:
    """What is returned stands for the gradient, and takes no memory."""
    total += gradient
    return gradient.new_zeros(()).expand_as(gradient)


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of sums over tokens, tiles or blocks: fp64 for fp64 inputs, else fp32."""
    return torch.promote_types(dtype, torch.float32)


class _Inputs(torch.autograd.Function):
    """Saves what backward starts from; what it returns stands for the output's gradient."""

    @staticmethod
    def forward(ctx: Any, work: _Work, count: int, *tensors: Tensor) -> Tensor:
        ctx.work = work
        ctx.save_for_backward(*tensors[:count])
        return torch.zeros((), device=tensors[0].device)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *ctx.work.backward(ctx.saved_tensors, ctx.needs_input_grad[2:])


class _Outputs(torch.autograd.Function):
    """Computes, and hands the output's gradient to the node before."""

    @staticmethod
    def forward(ctx: Any, handle: Tensor, work: _Work, tensors: Sequence[Tensor]) -> Tensor:
        ctx.work = work
        return work.forward(tensors, followed=True)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        ctx.work.gradient = grads[0]
        return torch.zeros((), device=grads[0].device), None, None
