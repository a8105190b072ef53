"""Where nobody reads a map's values they are not computed; whatever might read them has them."""

from contextlib import contextmanager, nullcontext

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import silu
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.pytorch_utils import Conv1D

from lit_longpo.engine.tiling.tiles import run_in_tiles
from lit_longpo.engine.tiling.unwritten import unwritten, with_last_maps
from lit_longpo.live_bytes import LiveBytes

TOKENS, TILE = 16, 4


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(8, 24), nn.Linear(8, 24), nn.Linear(24, 8)

    def forward(self, x):
        return self.down(silu(self.gate(x)) * self.up(x))


class Unbiased(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.up, self.down = (nn.Linear(a, b, bias=False) for a, b in ((8, 24), (8, 24), (24, 8)))

    forward = Gated.forward


class Convolved(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = Conv1D(24, 8), Conv1D(8, 24)

    def forward(self, x):
        return self.down(silu(self.up(x)))


class Scaled(Gated):
    """What multiplies the output has a gradient that asks for it."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, x):
        return super().forward(x) * self.scale


class ScaledInPlace(Scaled):
    def forward(self, x):
        return Gated.forward(self, x).mul_(self.scale)


class Normed(Gated):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(8)

    def forward(self, x):
        return self.norm(super().forward(x))


class Once(nn.Module):
    """Its last map is its first, too."""

    def __init__(self):
        super().__init__()
        self.square = nn.Linear(8, 8)

    def forward(self, x):
        return self.square(silu(self.square(x)))


class Observed(Gated):
    """A map with code of its own (hooks of other packages)."""

    def __init__(self):
        super().__init__()
        own = self.down.forward
        self.down.forward = lambda x: own(x) * self.gate.weight.mean()


def hooked(make, name):
    """What a hook makes of an output reads it."""
    module = make()
    module.get_submodule(name).register_forward_hook(lambda part, given, output: torch.tanh(output))
    return module


def replaced():
    """As accelerate's hooks and XLoRA do it."""
    module = adapted()
    own = module.down.forward
    module.down.forward = lambda x: own(x) * module.gate.base_layer.weight.mean()
    return module


def adapted(kind=Gated, **options):
    module = kind()
    inject_adapter_in_model(LoraConfig(r=2, target_modules=["gate", "up", "down"], **options), module)
    for name, parameter in module.named_parameters():
        if "lora" in name:
            nn.init.normal_(parameter)
    return module


# Products of a tile's second run: all that are computed where every value is read, and those that are left out.
CASES = {
    "gated": (Gated, 3, 1),
    "without biases": (Unbiased, 3, 1),
    "LoRA without biases": (lambda: adapted(Unbiased), 9, 2),
    "Conv1D": (Convolved, 2, 1),
    "scaled": (Scaled, 3, 0),
    "scaled in place": (ScaledInPlace, 3, 0),
    "normed": (Normed, 3, 0),
    "one map twice": (Once, 2, 0),
    "own code": (Observed, 3, 0),
    "LoRA": (adapted, 9, 2),
    "LoRA with dropout": (lambda: adapted(lora_dropout=0.5), 9, 2),
    "rsLoRA with biases": (lambda: adapted(use_rslora=True, lora_bias=True), 9, 2),
    "DoRA": (lambda: adapted(use_dora=True), 15, 0),
    "hook": (lambda: hooked(Gated, "down"), 3, 0),
    "hook on LoRA": (lambda: hooked(adapted, "down"), 9, 0),
    "hook on what LoRA adds to": (lambda: hooked(adapted, "down.base_layer"), 9, 1),
    "hook on what LoRA adds": (lambda: hooked(adapted, "down.lora_B.default"), 9, 1),
    "LoRA replaced": (replaced, 9, 0),
    "LoRA scaled": (lambda: adapted(Scaled), 9, 0),
}


class Products(TorchDispatchMode):
    """Counts those of runs that a backward follows; backward itself makes no graph."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.name() in ("aten::mm", "aten::addmm", "aten::bmm") and torch.is_grad_enabled()
        return func(*args, **(kwargs or {}))


def products_of_forwards(run, module, x):
    with Products() as products:
        run(module, x.clone().requires_grad_()).sum().backward()
    return products.count


@contextmanager
def poisoned():
    """Memory that nobody wrote is not a number."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def gradients(run, module, x):
    module.zero_grad()
    x = x.clone().requires_grad_()
    torch.manual_seed(1)
    output = run(module, x)
    output.backward(torch.linspace(-1, 2, output.numel(), dtype=output.dtype).view_as(output))
    return [output.detach(), x.grad, *(parameter.grad for parameter in module.parameters())]


def in_slices(module, x):
    return torch.cat([module(part) for part in x.split(TILE, dim=1)], dim=1)


def tiled(module, x):
    return run_in_tiles(module.forward, module, [x], TILE)


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_right_and_what_nobody_reads_is_not_computed(case):
    torch.manual_seed(0)
    make, products, left_out = CASES[case]
    module, x = make().double().train(), torch.randn(1, TOKENS, 8, dtype=torch.float64)
    expected = gradients(in_slices, module, x)
    with poisoned():
        found = gradients(tiled, module, x)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours is None) == (theirs is None)
        assert ours is None or torch.allclose(ours, theirs, rtol=1e-12, atol=1e-12)
    counts = [products_of_forwards(run, module, x) for run in (in_slices, tiled)]
    assert counts == [products * TOKENS // TILE, (products - left_out) * TOKENS // TILE]


@pytest.mark.parametrize("mode", [nullcontext, FakeTensorMode], ids=["values", "a plan's"])
def test_what_is_not_computed_takes_no_memory(mode):
    with mode():
        module, x = Unbiased(), torch.zeros(1, TOKENS, 8)
        output, last = with_last_maps(module, module, [x])
        assert last == [module.down]
        with LiveBytes() as memory:
            whole = module(x)
            taken = memory.live
        with LiveBytes() as memory, unwritten(last):
            made = module(x)
            assert taken - memory.live == whole.nbytes - whole.itemsize
    assert made.shape == whole.shape == output.shape
