import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.scores import leaves, scores, tensor

from lit_longpo.batch import View
from lit_longpo.objectives import DPO, IPO, Scored, SoLoPO, ipo_loss

summed = st.floats(-60.0, -0.01)


def naive_ipo(pc, pr, rc, rr, beta):
    h = (pc - rc) - (pr - rr)
    return h * h - h / beta + 1 / (4 * beta * beta)


def test_hand_value():
    """Log ratios: chosen -1 - (-2) = 1, rejected -3 - (-2) = -1; margin 2, target 1 / (2 * .5) = 1; (2 - 1)^2."""
    assert ipo_loss(tensor(-1), tensor(-3), tensor(-2), tensor(-2), beta=0.5).tolist() == [1.0]


@given(st.lists(st.tuples(summed, summed, summed, summed), min_size=1, max_size=4), st.floats(0.01, 1.0))
def test_equals_the_naive_loop(rows, beta):
    columns = [tensor(*column) for column in zip(*rows, strict=True)]
    expected = [naive_ipo(*row, beta) for row in rows]
    assert ipo_loss(*columns, beta=beta).tolist() == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_limits():
    """At the reference the whole target is missing; at the target nothing is, and beyond it the loss rises again."""
    same = tensor(-3.0, -5.0)
    assert ipo_loss(same, same, same, same, beta=0.1).tolist() == pytest.approx([25.0, 25.0])
    margins = tensor(4.0, 5.0, 6.0)
    zero = torch.zeros_like(margins)
    assert ipo_loss(margins, zero, zero, zero, beta=0.1).tolist() == pytest.approx([1.0, 0.0, 1.0])


@pytest.mark.parametrize("seed", range(3))
def test_gradcheck(seed):
    assert torch.autograd.gradcheck(lambda *x: ipo_loss(*x, beta=0.3), leaves(seed, 4))


@pytest.mark.parametrize("context", ["short", "long"])
def test_the_module_applies_its_loss_to_the_views_it_declares(context):
    policy = scores({(context, "chosen"): [-4.0, -2.0], (context, "rejected"): [-6.0, -3.0]})
    reference = scores({(context, "chosen"): [-5.0, -2.5], (context, "rejected"): [-5.0, -2.0]})
    module = IPO(beta=0.2, context=context)
    assert module.views.policy == module.views.reference == (View(context, "chosen"), View(context, "rejected"))
    losses, metrics = module.loss(policy, reference)
    expected = ipo_loss(tensor(-4, -2), tensor(-6, -3), tensor(-5, -2.5), tensor(-5, -2), beta=0.2)
    torch.testing.assert_close(losses, expected)
    assert not any(value.requires_grad for value in metrics.values())


def test_the_reward_is_dpos_and_so_is_the_weight_under_solopo():
    response = Scored(tensor(-4), tensor(2), tensor(-5))
    ours, theirs = IPO(beta=0.2).algorithm, DPO(beta=0.2).algorithm
    torch.testing.assert_close(ours.reward(response), theirs.reward(response))
    assert SoLoPO(base=IPO()).alpha == SoLoPO(base=DPO()).alpha == 3.0
