import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lit_longpo.batch import Scores, Slot, View
from lit_longpo.objectives import DPO, ORPO, SFT, SimPO
from lit_longpo.objectives.pairwise import Scored, dpo_loss, log_odds, orpo_loss, simpo_loss

summed = st.floats(-60.0, -0.01)
tokens = st.integers(1, 40).map(float)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def sigmoid(x):
    return 1.0 / (1.0 + math.exp(-x)) if x > -700 else 0.0


def naive_dpo(pc, pr, rc, rr, beta):
    ratio = math.log(math.exp(pc) / math.exp(rc)) - math.log(math.exp(pr) / math.exp(rr))
    return -math.log(sigmoid(beta * ratio))


def naive_simpo(c, r, nc, nr, beta, gamma):
    return -math.log(sigmoid(beta / nc * c - beta / nr * r - gamma))


def naive_orpo(c, r, nc, nr, beta):
    p, q = math.exp(c / nc), math.exp(r / nr)
    odds_ratio = (p / (1 - p)) / (q / (1 - q))
    return -c / nc - beta * math.log(sigmoid(math.log(odds_ratio)))


def test_dpo_hand_value():
    """Log ratios: chosen -1 - (-2) = 1, rejected -3 - (-2) = -1; beta .5 * 2 = 1; -log sigmoid(1) = .3133."""
    loss = dpo_loss(tensor(-1), tensor(-3), tensor(-2), tensor(-2), beta=0.5)
    assert loss.tolist() == pytest.approx([0.31326168751])


def test_simpo_hand_value():
    """2 * -4/4 = -2; 2 * -6/2 = -6; margin 4 - gamma 3 = 1; -log sigmoid(1) = .3133."""
    loss = simpo_loss(tensor(-4), tensor(-6), tensor(4), tensor(2), beta=2.0, gamma=3.0)
    assert loss.tolist() == pytest.approx([0.31326168751])


def test_orpo_hand_value():
    """p = 1/2 has log odds 0, q = 1/4 has log 1/3; NLL log 2; -log sigmoid(log 3) = log 4/3."""
    loss = orpo_loss(tensor(2 * math.log(0.5)), tensor(math.log(0.25)), tensor(2), tensor(1), beta=0.1)
    assert loss.tolist() == pytest.approx([math.log(2) + 0.1 * math.log(4 / 3)])


@given(st.lists(st.tuples(summed, summed, summed, summed), min_size=1, max_size=4), st.floats(0.01, 1.0))
def test_dpo_equals_the_naive_loop(rows, beta):
    columns = [tensor(*column) for column in zip(*rows, strict=True)]
    expected = [naive_dpo(*row, beta) for row in rows]
    assert dpo_loss(*columns, beta=beta).tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(st.lists(st.tuples(summed, summed, tokens, tokens), min_size=1, max_size=4))
def test_simpo_and_orpo_equal_the_naive_loop(rows):
    columns = [tensor(*column) for column in zip(*rows, strict=True)]
    simpo = [naive_simpo(*row, 2.0, 1.5) for row in rows]
    orpo = [naive_orpo(*row, 0.3) for row in rows]
    assert simpo_loss(*columns, beta=2.0, gamma=1.5).tolist() == pytest.approx(simpo, rel=1e-9)
    assert orpo_loss(*columns, beta=0.3).tolist() == pytest.approx(orpo, rel=1e-6)


def test_limits():
    same = tensor(-3.0, -5.0)
    assert dpo_loss(same, same, same, same, beta=0.1).tolist() == pytest.approx([math.log(2)] * 2)
    count = tensor(3.0, 5.0)
    assert simpo_loss(same, same, count, count, beta=2.0, gamma=0.0).tolist() == pytest.approx([math.log(2)] * 2)
    assert orpo_loss(same, same - 1, count, count, beta=0.0).tolist() == pytest.approx([1.0, 1.0])


def test_log_odds_stays_finite_when_the_answer_is_certain():
    value = torch.zeros(1, requires_grad=True)
    odds = log_odds(value, torch.ones(1))
    odds.backward()
    assert torch.isfinite(odds)
    assert torch.isfinite(value.grad)


@pytest.mark.parametrize("seed", range(3))
def test_gradcheck(seed):
    generator = torch.Generator().manual_seed(seed)
    leaves = [(-5 * torch.rand(3, generator=generator, dtype=torch.float64) - 0.1).requires_grad_() for _ in range(4)]
    counts = [torch.randint(1, 9, (3,), generator=generator).double() for _ in range(2)]
    assert torch.autograd.gradcheck(lambda *x: dpo_loss(*x, beta=0.3), leaves)
    assert torch.autograd.gradcheck(lambda c, r: simpo_loss(c, r, *counts, beta=2.0, gamma=1.0), leaves[:2])
    assert torch.autograd.gradcheck(lambda c, r: orpo_loss(c, r, *counts, beta=0.5), leaves[:2])


def scores(context, chosen, rejected, counts):
    slots, sums, numbers = [], [], []
    for example in range(len(chosen)):
        for role, values, column in (("chosen", chosen, 0), ("rejected", rejected, 1)):
            slots.append(Slot(example, context, role, 0))
            sums.append(values[example])
            numbers.append(counts[example][column])
    return Scores(tensor(*sums), tensor(*numbers), tuple(slots))


@pytest.mark.parametrize("context", ["short", "long"])
def test_each_module_applies_its_function_to_the_views_it_declares(context):
    policy = scores(context, [-4.0, -2.0], [-6.0, -3.0], [(4, 2), (1, 3)])
    reference = scores(context, [-5.0, -2.5], [-5.0, -2.0], [(4, 2), (1, 3)])
    columns = (tensor(-4, -2), tensor(-6, -3), tensor(4, 1), tensor(2, 3))
    expected = {
        DPO(beta=0.2, context=context): dpo_loss(*columns[:2], tensor(-5, -2.5), tensor(-5, -2), beta=0.2),
        SimPO(beta=2.5, gamma=0.5, context=context): simpo_loss(*columns, beta=2.5, gamma=0.5),
        ORPO(beta=0.3, context=context): orpo_loss(*columns, beta=0.3),
        SFT(context=context): tensor(1.0, 2.0),
    }
    for module, losses in expected.items():
        assert all(view.context == context for view in module.views.policy)
        actual, metrics = module.loss(policy, reference if module.views.reference else None)
        torch.testing.assert_close(actual, losses)
        assert not any(value.requires_grad for value in metrics.values())


def test_views():
    pair = (View("long", "chosen"), View("long", "rejected"))
    assert DPO().views.policy == DPO().views.reference == pair
    assert SimPO().views.policy == ORPO().views.policy == pair
    assert not SimPO().views.reference
    assert not ORPO().views.reference
    assert SFT().views.policy == (View("long", "chosen"),)


def test_rewards_follow_each_papers_definition():
    response = Scored(tensor(-4), tensor(2), tensor(-5))
    assert DPO(beta=0.2).algorithm.reward(response).tolist() == pytest.approx([0.2])
    assert SimPO(beta=2.0).algorithm.reward(response).tolist() == pytest.approx([-4.0])
    p = math.exp(-2)
    assert ORPO().algorithm.reward(response).tolist() == pytest.approx([math.log(p / (1 - p))])


def test_dpo_without_reference_scores_says_so():
    policy = scores("long", [-4.0], [-6.0], [(4, 2)])
    with pytest.raises(ValueError, match="needs reference"):
        DPO().loss(policy, None)
