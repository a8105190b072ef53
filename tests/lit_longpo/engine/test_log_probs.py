import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lit_longpo.engine.log_probs import LogitTransform, projected_twice, token_log_probs
from lit_longpo.live_bytes import LiveBytes

TRANSFORMS = [
    LogitTransform(),
    LogitTransform(scale=0.5),
    LogitTransform(softcap=2.0),
    LogitTransform(3.0, 1.5),
]


def whole_logits(hidden, weight, targets, bias, transform):
    logits = hidden @ weight.T
    logits = (logits if bias is None else logits + bias) * transform.scale
    if transform.softcap is not None:
        logits = transform.softcap * torch.tanh(logits / transform.softcap)
    return logits.log_softmax(-1)[torch.arange(len(targets)), targets]


def inputs(bias=True, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    hidden, weight, offset = (
        torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in [(7, 5), (11, 5), (11,)]
    )
    return hidden, weight, torch.randint(11, (7,), generator=generator), offset if bias else None


def test_hand_derived_value():
    """One token, two words, logits (0, log 3): p = (1/4, 3/4)."""
    weight = torch.tensor([[0.0], [3.0]]).log().clamp(min=0.0)
    value = token_log_probs(torch.ones(1, 1), weight, torch.tensor([1]))
    assert value.item() == pytest.approx(-0.2876820724517809)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("tile_bytes", [1, 3 * 4 * 11, 10**6])
def test_values_and_gradients_equal_whole_logits(transform, bias, tile_bytes):
    hidden, weight, targets, offset = inputs(bias)
    leaves = [leaf for leaf in (hidden, weight, offset) if leaf is not None]
    seeds = torch.arange(1.0, 8.0, dtype=torch.float64)
    tiled = token_log_probs(hidden, weight, targets, bias=offset, transform=transform, tile_bytes=tile_bytes)
    expected = whole_logits(hidden, weight, targets, offset, transform)
    torch.testing.assert_close(tiled, expected)
    ours = torch.autograd.grad((tiled * seeds).sum(), leaves)
    theirs = torch.autograd.grad((expected * seeds).sum(), leaves)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_gradcheck(transform):
    hidden, weight, targets, bias = inputs()

    def function(*leaves):
        return token_log_probs(leaves[0], leaves[1], targets, bias=leaves[2], transform=transform, tile_bytes=100)

    assert torch.autograd.gradcheck(function, (hidden, weight, bias))


def test_a_frozen_head_gets_no_gradient_buffer(monkeypatch):
    hidden, weight, targets, _ = inputs(dtype=torch.float32)
    weight = weight.detach()
    made = []
    original = torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda like, **kwargs: made.append(like.shape) or original(like, **kwargs))
    token_log_probs(hidden, weight, targets).sum().backward()
    assert hidden.grad is not None
    assert weight.shape not in made
    token_log_probs(hidden, weight.requires_grad_(), targets).sum().backward()
    assert weight.shape in made


def test_without_tokens_the_weight_has_a_gradient_of_zeros():
    hidden, weight, targets, bias = inputs()
    token_log_probs(hidden[:0], weight, targets[:0], bias=bias).sum().backward()
    assert not weight.grad.any()
    assert not bias.grad.any()


def test_half_precision_gives_fp32_values_and_sums_the_weight_gradient_in_fp32():
    hidden, weight, targets, _ = inputs(dtype=torch.float32)
    low = [leaf.detach().bfloat16().requires_grad_() for leaf in (hidden, weight)]
    value = token_log_probs(*low, targets, tile_bytes=1)
    assert value.dtype == torch.float32
    value.sum().backward()
    assert low[1].grad.dtype == torch.bfloat16
    exact = [leaf.detach().float().requires_grad_() for leaf in low]
    whole_logits(*exact, targets, None, LogitTransform()).sum().backward()
    # One token per tile: rounding each tile's share to bf16 would cost several times this tolerance.
    torch.testing.assert_close(low[1].grad.float(), exact[1].grad, rtol=2e-2, atol=1e-2)


def test_under_autocast_backward_rounds_like_forward():
    """bf16 products in forward and backward, as plain autocast has them; fp32 weight, bf16 hidden states."""
    generator = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(6, 16, generator=generator), torch.randn(20, 16, generator=generator)
    targets = torch.randint(20, (6,), generator=generator)
    gradients = []
    for ours in (True, False):
        w = weight.clone().requires_grad_()
        h = hidden.bfloat16().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            if ours:
                values = token_log_probs(h, w, targets, tile_bytes=4 * 20 * 2)
            else:
                values = torch.nn.functional.linear(h, w).float().log_softmax(-1).gather(1, targets.unsqueeze(1))
        values.sum().backward()
        gradients.append((h.grad, w.grad))
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine.float(), theirs.float(), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_second_backward_of_one_graph_gives_the_same_gradients(transform):
    """The tile that waits for the first backward is used up by it."""
    hidden, weight, targets, bias = inputs()
    value = token_log_probs(hidden, weight, targets, bias=bias, transform=transform, tile_bytes=3 * 4 * 11).sum()
    first = torch.autograd.grad(value, (hidden, weight, bias), retain_graph=True)
    second = torch.autograd.grad(value, (hidden, weight, bias))
    torch.testing.assert_close(first, second)


class Projections(TorchDispatchMode):
    """Where every product with 11 columns, the vocabulary, is written."""

    def __init__(self):
        super().__init__()
        self.places = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        result = operator(*args, **(kwargs or {}))
        if operator.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm) and result.shape[-1] == 11:
            self.places.append(result.data_ptr())
        return result


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("tokens_a_tile", "calls"), [(7, 1), (3, 3 + 2), (1, 7 + 6)])
def test_all_tiles_but_the_last_are_projected_twice(tokens_a_tile, calls, with_bias):
    """And all of them into the same memory."""
    hidden, weight, targets, bias = inputs(with_bias)
    with Projections() as projected:
        token_log_probs(hidden, weight, targets, bias=bias, tile_bytes=tokens_a_tile * 4 * 11).sum().backward()
    assert len(projected.places) == calls
    assert len(set(projected.places)) == 1


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_tile_of_logits_waits_for_backward_at_most(transform, dtype):
    hidden, weight = torch.randn(64, 4, dtype=dtype, requires_grad=True), torch.randn(512, 4, dtype=dtype)
    with LiveBytes() as memory:
        value = token_log_probs(hidden, weight, torch.arange(64), transform=transform, tile_bytes=16 * 4 * 512).sum()
        waiting = memory.live
        value.backward()
    tile = 16 * 4 * 512
    assert waiting < tile * (transform.softcap is None) + tile / 2
    assert memory.peak < (5 if transform != LogitTransform() or dtype == torch.bfloat16 else 1.5) * tile


def test_tokens_of_all_tiles_but_the_last_are_projected_twice(monkeypatch):
    monkeypatch.setattr("lit_longpo.engine.log_probs.TILE_BYTES", 3 * 4 * 11)
    assert [projected_twice(scored, 11) for scored in (0, 1, 3, 4, 7)] == [0, 0, 0, 2, 6]


def test_logits_far_apart_keep_their_gradients():
    """Softmax of 0, 60 and 200: what the largest leaves of the others is too small for fp32, not wrong."""
    hidden = torch.ones(1, 1, requires_grad=True)
    weight = torch.tensor([[0.0], [60.0], [200.0]], requires_grad=True)
    token_log_probs(hidden, weight, torch.tensor([0])).sum().backward()
    assert weight.grad.flatten().tolist() == [1.0, 0.0, -1.0]
