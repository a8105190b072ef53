import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lit_longpo.batch import Scores, Slot, View
from lit_longpo.objectives import LongPO, dpo_loss
from lit_longpo.objectives.longpo import longpo_loss

numbers = st.floats(-30, 0)
rows = st.lists(st.tuples(numbers, numbers, numbers, numbers, st.floats(0, 10)), min_size=1, max_size=5)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_hand_value():
    """Margin (-2 + 1) - (-5 + 3) = 1; .01 * log(1 + e^-.1) + 2 = 2.0064440."""
    loss = longpo_loss(tensor(-2), tensor(-5), tensor(-1), tensor(-3), tensor(2.0), beta=0.1, pref_weight=0.01)
    assert loss.tolist() == pytest.approx([2.0064439666])


def test_a_pairs_margin_comes_off_inside_the_sigmoid_alone():
    """As above, less a margin of .1: log 2 is left, and the NLL is what it was."""
    columns = [tensor(value) for value in (-2, -5, -1, -3, 2.0)]
    loss = longpo_loss(*columns, beta=0.1, pref_weight=0.01, margin=tensor(0.1))
    assert loss.tolist() == pytest.approx([2.0 + 0.01 * math.log(2)])
    moved = dataclasses.replace(POLICY, margins=tensor(0.7))
    expected = longpo_loss(*[tensor(v) for v in (-4, -9, -3, -2, 2)], beta=0.5, pref_weight=0.2, margin=tensor(0.7))
    assert LongPO(beta=0.5, pref_weight=0.2, nll="answer").loss(moved, REFERENCE)[0].tolist() == expected.tolist()


@given(rows, st.floats(0.01, 2), st.floats(0, 2))
def test_equals_the_naive_loop(rows, beta, weight):
    columns = [tensor(*column) for column in zip(*rows, strict=True)]
    expected = [weight * math.log(1 + math.exp(-beta * ((pc - rc) - (pr - rr)))) + nll for pc, pr, rc, rr, nll in rows]
    actual = longpo_loss(*columns, beta=beta, pref_weight=weight)
    assert actual.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_limits():
    values = [tensor(-3, -1), tensor(-2, -4), tensor(-1, -2), tensor(-5, -1)]
    nll = tensor(0.3, 0.7)
    assert torch.equal(longpo_loss(*values, nll, beta=0.3, pref_weight=0.0), nll)
    torch.testing.assert_close(longpo_loss(*values, nll * 0, beta=0.3, pref_weight=1.0), dpo_loss(*values, beta=0.3))


def test_gradcheck():
    values = [tensor(-0.3, -2.0).requires_grad_() for _ in range(5)]
    assert torch.autograd.gradcheck(lambda *v: longpo_loss(*v, beta=0.7, pref_weight=0.3), values)


def test_the_policy_reads_long_and_the_reference_short():
    views = LongPO().views
    assert views.policy == (View("long", "chosen"), View("long", "rejected"))
    assert views.reference == (View("short", "chosen"), View("short", "rejected"))
    assert views.sequence == ("long",)
    assert LongPO(nll="answer").views.sequence == LongPO(nll="none").views.sequence == ()


def test_as_an_ablation_the_reference_reads_long_and_no_nll_is_added():
    """Then it is DPO on long contexts."""
    ablation = LongPO(beta=0.5, pref_weight=1.0, nll="none", reference_context="long")
    assert ablation.views.reference == ablation.views.policy
    reference = Scores(REFERENCE.sums, REFERENCE.counts, (SLOTS[0], SLOTS[2]))
    losses, metrics = ablation.loss(POLICY, reference)
    torch.testing.assert_close(losses, dpo_loss(tensor(-4), tensor(-9), tensor(-3), tensor(-2), beta=0.5))
    assert metrics["nll"].tolist() == [2.0]
    assert "sequence_nll" not in metrics


def test_a_loss_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"neither NLL nor preference term; set model\.pref_weight"):
        LongPO(nll="none", pref_weight=0.0)


SLOTS = (Slot(0, "long", "chosen", 0), Slot(0, "long", "rest", 0), Slot(0, "long", "rejected", 0))
POLICY = Scores(tensor(-4.0, -30.0, -9.0), tensor(2.0, 10.0, 3.0), SLOTS)
REFERENCE = Scores(
    tensor(-3.0, -2.0), tensor(2.0, 3.0), (Slot(0, "short", "chosen", 0), Slot(0, "short", "rejected", 0))
)


@pytest.mark.parametrize(("scope", "nll"), [("sequence", 34 / 12), ("answer", 2.0)])
def test_the_module_puts_every_number_in_its_place(scope, nll):
    losses, metrics = LongPO(beta=0.5, pref_weight=0.2, nll=scope).loss(POLICY, REFERENCE)
    expected = longpo_loss(tensor(-4), tensor(-9), tensor(-3), tensor(-2), tensor(nll), beta=0.5, pref_weight=0.2)
    torch.testing.assert_close(losses, expected)
    assert metrics["rewards/chosen"].tolist() == [-0.5]
    assert metrics["rewards/margins"].tolist() == [pytest.approx(-0.5 + 3.5)]
    assert metrics["nll"].tolist() == [2.0]
