import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.scores import leaves, scores, tensor, token_counts

from lit_longpo.batch import View
from lit_longpo.objectives import Scored, SimPO, simpo_loss

summed = st.floats(-60.0, -0.01)
tokens = st.integers(1, 40).map(float)


def naive_simpo(c, r, nc, nr, beta, gamma):
    margin = beta / nc * c - beta / nr * r - gamma
    return math.log(1.0 + math.exp(-margin))


def test_hand_value():
    """2 * -4/4 = -2; 2 * -6/2 = -6; margin 4 - gamma 3 = 1; -log sigmoid(1) = .3133."""
    loss = simpo_loss(tensor(-4), tensor(-6), tensor(4), tensor(2), beta=2.0, gamma=3.0)
    assert loss.tolist() == pytest.approx([0.31326168751])


def test_a_pairs_margin_is_added_to_gamma():
    """Rewards -2 and -6: 4 - gamma 3 - margin 1 = 0, log 2."""
    loss = simpo_loss(tensor(-4), tensor(-6), tensor(4), tensor(2), beta=2.0, gamma=3.0, margin=tensor(1))
    assert loss.tolist() == pytest.approx([math.log(2)])


@given(st.lists(st.tuples(summed, summed, tokens, tokens), min_size=1, max_size=4))
def test_equals_the_naive_loop(rows):
    columns = [tensor(*column) for column in zip(*rows, strict=True)]
    expected = [naive_simpo(*row, 2.0, 1.5) for row in rows]
    assert simpo_loss(*columns, beta=2.0, gamma=1.5).tolist() == pytest.approx(expected, rel=1e-9)


def test_equal_responses_lose_log_two_without_a_margin():
    same, count = tensor(-3.0, -5.0), tensor(3.0, 5.0)
    assert simpo_loss(same, same, count, count, beta=2.0, gamma=0.0).tolist() == pytest.approx([math.log(2)] * 2)


@pytest.mark.parametrize("seed", range(3))
def test_gradcheck(seed):
    counts = token_counts(seed, 2)
    assert torch.autograd.gradcheck(lambda c, r: simpo_loss(c, r, *counts, beta=2.0, gamma=1.0), leaves(seed, 2))


@pytest.mark.parametrize("context", ["short", "long"])
def test_the_module_applies_its_loss_to_the_views_it_declares(context):
    sums = {(context, "chosen"): [-4.0, -2.0], (context, "rejected"): [-6.0, -3.0]}
    policy = scores(sums, {"chosen": [4, 1], "rejected": [2, 3]})
    module = SimPO(beta=2.5, gamma=0.5, context=context)
    assert module.views.policy == (View(context, "chosen"), View(context, "rejected"))
    assert not module.views.reference
    losses, metrics = module.loss(policy, None)
    expected = simpo_loss(tensor(-4, -2), tensor(-6, -3), tensor(4, 1), tensor(2, 3), beta=2.5, gamma=0.5)
    torch.testing.assert_close(losses, expected)
    assert not any(value.requires_grad for value in metrics.values())


def test_the_reward_is_length_averaged_and_has_no_margin():
    response = Scored(tensor(-4), tensor(2), tensor(-5))
    assert SimPO(beta=2.0, gamma=5.0).algorithm.reward(response).tolist() == pytest.approx([-4.0])
