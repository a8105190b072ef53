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


def test_per_token_by_hand_and_in_the_module():
    """Log ratios 1 of two tokens and -1 of four: margin .5 + .25, target 1; (-.25)^2."""
    sums = tensor(-1), tensor(-3), tensor(-2), tensor(-2)
    found = ipo_loss(*sums, beta=0.5, chosen_tokens=tensor(2), rejected_tokens=tensor(4))
    assert found.tolist() == [0.0625]
    algorithm = IPO(beta=0.5, per_token=True).algorithm
    chosen, rejected = Scored(sums[0], tensor(2), sums[2]), Scored(sums[1], tensor(4), sums[3])
    assert algorithm.loss(chosen, rejected).tolist() == [0.0625]
    assert (algorithm.reward(chosen).item(), algorithm.reward(rejected).item()) == (0.25, -0.125)
    assert IPO(beta=0.5).algorithm.loss(chosen, rejected).tolist() == [1.0]
    assert SoLoPO(base=IPO(per_token=True)).algorithm.per_token


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
