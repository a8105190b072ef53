"""Slices of a row, one after another, are the whole row: values, gradients, what is drawn, what waits for gradients."""

import pytest
import torch
from torch import nn

from lit_longpo.engine.tiling.tiles import run_in_tiles
from lit_longpo.live_bytes import LiveBytes


class Gated(nn.Module):
    """An MLP with a gate; its dropout is off unless it is asked for."""

    def __init__(self, hidden=8, inside=24, dropout=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.gate, self.up, self.down = (
            nn.Linear(a, b) for a, b in ((hidden, inside), (hidden, inside), (inside, hidden))
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        return self.down(self.dropout(nn.functional.silu(self.gate(x)) * self.up(x)))


def in_slices(module, x, size):
    """What tiles have to be, by autograd alone."""
    return torch.cat([module(part) for part in x.split(size, dim=1)], dim=1)


def gradients(run, module, x, *, seed=1):
    module.zero_grad()
    x = x.detach().requires_grad_()
    torch.manual_seed(seed)
    output = run(module, x)
    drawn = torch.rand(1)
    output.backward(torch.linspace(-1, 2, output.numel(), dtype=output.dtype).view_as(output))
    after = torch.rand(1)
    return output.detach(), x.grad, [parameter.grad for parameter in module.parameters()], drawn, after


def tiled(size):
    return lambda module, x: run_in_tiles(module.forward, module, [x], size)


@pytest.mark.parametrize("size", [1, 5, 16, 100])
def test_values_and_gradients_are_those_of_the_whole_row(size):
    module, x = Gated().double(), torch.randn(1, 16, 8, dtype=torch.float64)
    expected, found = (gradients(run, module, x) for run in (lambda module, x: module(x), tiled(size)))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_what_dropout_draws_is_drawn_again_in_backward():
    """And generators go on after backward as if it had drawn nothing."""
    module, x = Gated(dropout=0.5).double(), torch.randn(1, 16, 8, dtype=torch.float64)
    expected, found = (gradients(run, module, x) for run in (lambda module, x: in_slices(module, x, 5), tiled(5)))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert not torch.equal(found[0], gradients(tiled(5), module, x, seed=2)[0])


def test_precision_of_autocast_holds_in_backward_and_its_cache_stays_clean():
    """Older versions of torch keep casts that were made without gradients, and weights then get none."""
    module, x = Gated(), torch.randn(1, 16, 8)

    def autocast(run, cache):
        def both(module, x):
            with torch.autocast("cpu", torch.bfloat16, cache_enabled=cache):
                return run(module, x) + module(x)

        return both

    exact = gradients(lambda module, x: 2 * module(x), module, x)[2]
    expected = gradients(autocast(lambda module, x: in_slices(module, x, 5), False), module, x)
    found = gradients(autocast(tiled(5), True), module, x)
    assert found[0].dtype == torch.bfloat16
    torch.testing.assert_close(found[2], expected[2], rtol=1e-5, atol=1e-5)
    assert max(float((ours - theirs).abs().max()) for ours, theirs in zip(found[2], exact, strict=True)) > 1e-3


def test_short_weights_lose_nothing_to_the_number_of_tiles():
    whole, x = Gated(), torch.randn(1, 512, 8)
    exact = gradients(lambda module, x: module(x), whole.double(), x.double())[2]
    module = Gated().bfloat16()
    errors = []
    for run in (lambda module, x: module(x), tiled(4)):
        found = gradients(run, module, x.bfloat16())[2]
        pairs = zip(found, exact, strict=True)
        errors.append(sum(float((ours - theirs).norm() / theirs.norm()) for ours, theirs in pairs))
    assert errors[1] < 1.2 * errors[0]


def test_what_waits_for_a_gradient_is_told_once_and_frozen_weights_get_none():
    module, calls = Gated(), []
    module.up.requires_grad_(False)
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(lambda _, name=name: calls.append(name))
    run_in_tiles(module.forward, module, [torch.randn(1, 16, 8)], 3).sum().backward()  # an input without gradient
    assert sorted(calls) == ["down.bias", "down.weight", "gate.bias", "gate.weight"]
    assert module.up.weight.grad is None


def test_tensors_that_go_together_are_sliced_together():
    """As experts' tokens, their choices (whole numbers) and the choices' weights."""
    table = nn.Embedding(3, 8).double()
    tokens, weights = torch.randn(10, 8, dtype=torch.float64), torch.rand(10, 2, dtype=torch.float64)
    choices = torch.randint(3, (10, 2))
    results = []
    for tiles in (False, True):
        parts = [tokens.clone().requires_grad_(), choices, weights.clone().requires_grad_()]

        def function(tokens, choices, weights):
            return tokens * (table(choices) * weights.unsqueeze(-1)).sum(1)

        output = run_in_tiles(function, table, parts, 3) if tiles else function(*parts)
        table.zero_grad()
        output.square().sum().backward()
        results.append((output.detach(), parts[0].grad, parts[2].grad, table.weight.grad))
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


def test_the_working_set_is_that_of_a_tile():
    module, x = Gated(8, 256), torch.randn(1, 1024, 8)
    peaks = []
    for run in (lambda module, x: module(x), tiled(64)):
        module.zero_grad()
        with LiveBytes() as memory:
            run(module, x).sum().backward()
        peaks.append(memory.peak)
    row = x.nbytes
    assert peaks[0] > 5 * 32 * row  # 5 x intermediate size
    assert peaks[1] < 6 * 32 * row / 16 + 4 * row + 3 * sum(p.nbytes for p in module.parameters())


def test_sums_of_short_weights_are_rounded_one_by_one():
    """All of them rounded beside all of them in fp32 would be half as much again."""
    module, x = Gated(64, 256).bfloat16(), torch.randn(1, 8, 64).bfloat16()
    output = run_in_tiles(module.forward, module, [x], 4)
    for parameter in module.parameters():
        parameter.register_post_accumulate_grad_hook(lambda made: setattr(made, "grad", None))
    with LiveBytes() as memory:
        output.sum().backward()
    weights = sum(p.nbytes for p in module.parameters())
    assert 3 * weights < memory.peak < 3.6 * weights  # the weights themselves, and sums that are twice as wide
