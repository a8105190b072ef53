import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lit_longpo.batch import Scores, Slot
from lit_longpo.objectives import LOGO, simpo_loss
from lit_longpo.objectives.logo import logo_loss


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


@st.composite
def batches(draw):
    count, negatives = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    number, tokens = st.floats(-40, 0), st.integers(1, 9).map(float)
    many = st.lists(number, min_size=negatives, max_size=negatives)
    many_tokens = st.lists(tokens, min_size=negatives, max_size=negatives)
    return [(draw(number), draw(many), draw(tokens), draw(many_tokens)) for _ in range(count)]


def naive(chosen, rejected, chosen_tokens, rejected_tokens, beta, gamma, weight):
    mean = chosen / chosen_tokens
    others = sum(value / tokens for value, tokens in zip(rejected, rejected_tokens, strict=True)) / len(rejected)
    return math.log1p(math.exp(-(beta * mean - beta * others - gamma))) - weight * mean


def test_hand_value():
    """Means -1 and (-2, -4): 2 * (-1 + 3) - 1 = 3; log(1 + e^-3) + .1 * 1 = .1485874."""
    loss = logo_loss(
        tensor([-2.0]), tensor([[-4.0, -12.0]]), tensor([2.0]), tensor([[2.0, 3.0]]), beta=2, gamma=1, nll_weight=0.1
    )
    assert loss.tolist() == pytest.approx([0.1485873516])


def test_a_pairs_margin_is_added_to_gamma():
    """As above, gamma 1 and a margin of 3: nothing is left inside the sigmoid."""
    columns = [tensor([-2.0]), tensor([[-4.0, -12.0]]), tensor([2.0]), tensor([[2.0, 3.0]])]
    loss = logo_loss(*columns, beta=2, gamma=1, nll_weight=0.1, margin=tensor([3.0]))
    assert loss.tolist() == pytest.approx([math.log(2) + 0.1])
    slots = (Slot(0, "long", "chosen", 0), Slot(0, "long", "rejected", 0), Slot(0, "long", "rejected", 1))
    scores = Scores(tensor([-2.0, -4.0, -12.0]), tensor([2.0, 2.0, 3.0]), slots, margins=tensor([3.0]))
    assert LOGO(beta=2, gamma=1, nll_weight=0.1).loss(scores, None)[0].tolist() == loss.tolist()


@given(batches(), st.floats(0.1, 3), st.floats(-1, 3), st.floats(0, 1))
def test_equals_the_naive_loop(rows, beta, gamma, weight):
    columns = [tensor(list(column)) for column in zip(*rows, strict=True)]
    actual = logo_loss(*columns, beta=beta, gamma=gamma, nll_weight=weight)
    expected = [naive(*row, beta, gamma, weight) for row in rows]
    assert actual.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(batches())
def test_one_rejected_response_and_no_regulariser_is_simpo(rows):
    chosen, rejected, tokens, rejected_tokens = (tensor(list(column)) for column in zip(*rows, strict=True))
    one = (chosen, rejected[:, 0], tokens, rejected_tokens[:, 0])
    logo = logo_loss(chosen, rejected[:, :1], tokens, rejected_tokens[:, :1], beta=2, gamma=0.5, nll_weight=0)
    torch.testing.assert_close(logo, simpo_loss(*one, beta=2, gamma=0.5))


def test_every_rejected_response_counts_once():
    """The public trainer's second slice held both rejected responses, which weighs the first one twice."""
    chosen, tokens = tensor([-1.0]), tensor([1.0])
    rejected = tensor([[-3.0, -5.0]]).requires_grad_()
    logo_loss(chosen, rejected, tokens, tensor([[1.0, 1.0]]), beta=1, gamma=0, nll_weight=0).sum().backward()
    assert rejected.grad is not None
    assert rejected.grad[0, 0] == rejected.grad[0, 1] != 0
    sliced_wrongly = simpo_loss(chosen, tensor([-3.0]), tokens, tokens, beta=1, gamma=0) / 2
    sliced_wrongly += logo_loss(chosen, rejected, tokens, tensor([[1.0, 1.0]]), beta=1, gamma=0, nll_weight=0) / 2
    right = logo_loss(chosen, rejected, tokens, tensor([[1.0, 1.0]]), beta=1, gamma=0, nll_weight=0)
    assert not torch.allclose(right, sliced_wrongly)


def test_gradcheck():
    chosen, rejected = tensor([-0.3, -2.0]).requires_grad_(), tensor([[-1.0, -3.0], [-2.0, -0.1]]).requires_grad_()
    counts = tensor([2.0, 3.0]), tensor([[1.0, 2.0], [4.0, 1.0]])
    assert torch.autograd.gradcheck(
        lambda c, r: logo_loss(c, r, *counts, beta=2.0, gamma=0.3, nll_weight=0.1), (chosen, rejected)
    )


def test_the_module_hands_over_all_rejected_responses():
    slots = (Slot(0, "long", "chosen", 0), Slot(0, "long", "rejected", 0), Slot(0, "long", "rejected", 1))
    scores = Scores(tensor([-2.0, -4.0, -12.0]), tensor([2.0, 2.0, 3.0]), slots)
    module = LOGO(beta=2.0, gamma=1.0)
    losses, metrics = module.loss(scores, None)
    assert losses.tolist() == pytest.approx([0.1485873516])
    assert metrics["rewards/margins"].tolist() == pytest.approx([4.0])
    assert module.views.num_rejected == 2
    assert not module.views.reference


def test_at_least_one_rejected_response():
    with pytest.raises(ValueError, match="num_rejected"):
        LOGO(num_rejected=0)
