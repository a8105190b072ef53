import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.scores import leaves, scores, tensor

from lit_longpo.batch import View
from lit_longpo.objectives import DPO, Scored, dpo_loss

summed = st.floats(-60.0, -0.01)


def naive_dpo(pc, pr, rc, rr, beta):
    ratio = math.log(math.exp(pc) / math.exp(rc)) - math.log(math.exp(pr) / math.exp(rr))
    return math.log(1.0 + math.exp(-beta * ratio))


def test_hand_value():
    """Log ratios: chosen -1 - (-2) = 1, rejected -3 - (-2) = -1; beta .5 * 2 = 1; -log sigmoid(1) = .3133."""
    loss = dpo_loss(tensor(-1), tensor(-3), tensor(-2), tensor(-2), beta=0.5)
    assert loss.tolist() == pytest.approx([0.31326168751])


def test_a_pairs_margin_comes_off_the_rewards_difference():
    """The first pair as above: .5 * 2 - 1 = 0, log 2. The second has no margin; a margin of -1 makes it easier: 2."""
    columns = [tensor(*[value] * 3) for value in (-1, -3, -2, -2)]
    loss = dpo_loss(*columns, beta=0.5, margin=tensor(1, 0, -1))
    assert loss.tolist() == pytest.approx([math.log(2), 0.31326168751, 0.12692801104])


@given(st.lists(st.tuples(summed, summed, summed, summed), min_size=1, max_size=4), st.floats(0.01, 1.0))
def test_equals_the_naive_loop(rows, beta):
    columns = [tensor(*column) for column in zip(*rows, strict=True)]
    expected = [naive_dpo(*row, beta) for row in rows]
    assert dpo_loss(*columns, beta=beta).tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_a_policy_that_is_the_reference_loses_log_two():
    same = tensor(-3.0, -5.0)
    assert dpo_loss(same, same, same, same, beta=0.1).tolist() == pytest.approx([math.log(2)] * 2)


@pytest.mark.parametrize("seed", range(3))
def test_gradcheck(seed):
    assert torch.autograd.gradcheck(lambda *x: dpo_loss(*x, beta=0.3), leaves(seed, 4))


@pytest.mark.parametrize("context", ["short", "long"])
def test_the_module_applies_its_loss_to_the_views_it_declares(context):
    policy = scores({(context, "chosen"): [-4.0, -2.0], (context, "rejected"): [-6.0, -3.0]})
    reference = scores({(context, "chosen"): [-5.0, -2.5], (context, "rejected"): [-5.0, -2.0]})
    module = DPO(beta=0.2, context=context)
    assert module.views.policy == module.views.reference == (View(context, "chosen"), View(context, "rejected"))
    losses, metrics = module.loss(policy, reference)
    expected = dpo_loss(tensor(-4, -2), tensor(-6, -3), tensor(-5, -2.5), tensor(-5, -2), beta=0.2)
    torch.testing.assert_close(losses, expected)
    assert not any(value.requires_grad for value in metrics.values())


def test_the_reward_is_the_scaled_log_ratio():
    response = Scored(tensor(-4), tensor(2), tensor(-5))
    assert DPO(beta=0.2).algorithm.reward(response).tolist() == pytest.approx([0.2])


def test_without_reference_scores_it_says_so():
    policy = scores({("long", "chosen"): [-4.0], ("long", "rejected"): [-6.0]})
    with pytest.raises(ValueError, match="needs reference"):
        DPO().loss(policy, None)
