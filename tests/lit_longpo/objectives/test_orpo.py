import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.scores import leaves, scores, tensor, token_counts

from lit_longpo.batch import View
from lit_longpo.objectives import ORPO, Scored, orpo_loss
from lit_longpo.objectives.orpo import log_odds

summed = st.floats(-60.0, -0.01)
tokens = st.integers(1, 40).map(float)


def naive_orpo(c, r, nc, nr, beta):
    p, q = math.exp(c / nc), math.exp(r / nr)
    odds_ratio = (p / (1 - p)) / (q / (1 - q))
    return -c / nc + beta * math.log(1.0 + 1.0 / odds_ratio)


def test_hand_value():
    """p = 1/2 has log odds 0, q = 1/4 has log 1/3; NLL log 2; -log sigmoid(log 3) = log 4/3."""
    loss = orpo_loss(tensor(2 * math.log(0.5)), tensor(math.log(0.25)), tensor(2), tensor(1), beta=0.1)
    assert loss.tolist() == pytest.approx([math.log(2) + 0.1 * math.log(4 / 3)])


def test_a_pairs_margin_comes_off_the_log_odds_ratio():
    """As above, with a margin of log 3: nothing is left inside the sigmoid, and the NLL is what it was."""
    chosen, rejected = tensor(2 * math.log(0.5)), tensor(math.log(0.25))
    loss = orpo_loss(chosen, rejected, tensor(2), tensor(1), beta=0.5, margin=tensor(math.log(3)))
    assert loss.tolist() == pytest.approx([math.log(2) + 0.5 * math.log(2)])


@given(st.lists(st.tuples(summed, summed, tokens, tokens), min_size=1, max_size=4))
def test_equals_the_naive_loop(rows):
    columns = [tensor(*column) for column in zip(*rows, strict=True)]
    expected = [naive_orpo(*row, 0.3) for row in rows]
    assert orpo_loss(*columns, beta=0.3).tolist() == pytest.approx(expected, rel=1e-6)


def test_beta_zero_is_supervised_fine_tuning():
    same, count = tensor(-3.0, -5.0), tensor(3.0, 5.0)
    assert orpo_loss(same, same - 1, count, count, beta=0.0).tolist() == pytest.approx([1.0, 1.0])


def test_log_odds_stays_finite_when_the_answer_is_certain():
    value = torch.zeros(1, requires_grad=True)
    odds = log_odds(value, torch.ones(1))
    odds.backward()
    assert torch.isfinite(odds)
    assert torch.isfinite(value.grad)


@pytest.mark.parametrize("seed", range(3))
def test_gradcheck(seed):
    counts = token_counts(seed, 2)
    assert torch.autograd.gradcheck(lambda c, r: orpo_loss(c, r, *counts, beta=0.5), leaves(seed, 2))


@pytest.mark.parametrize("context", ["short", "long"])
def test_the_module_applies_its_loss_to_the_views_it_declares(context):
    sums = {(context, "chosen"): [-4.0, -2.0], (context, "rejected"): [-6.0, -3.0]}
    policy = scores(sums, {"chosen": [4, 1], "rejected": [2, 3]})
    module = ORPO(beta=0.3, context=context)
    assert module.views.policy == (View(context, "chosen"), View(context, "rejected"))
    assert not module.views.reference
    losses, metrics = module.loss(policy, None)
    torch.testing.assert_close(losses, orpo_loss(tensor(-4, -2), tensor(-6, -3), tensor(4, 1), tensor(2, 3), beta=0.3))
    assert not any(value.requires_grad for value in metrics.values())


def test_the_reward_is_the_log_odds():
    response = Scored(tensor(-4), tensor(2), tensor(-5))
    p = math.exp(-2)
    assert ORPO().algorithm.reward(response).tolist() == pytest.approx([math.log(p / (1 - p))])
