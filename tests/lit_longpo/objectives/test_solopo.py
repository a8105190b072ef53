import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.scores import scores, tensor

from lit_longpo.batch import View
from lit_longpo.objectives import DPO, IPO, ORPO, Scored, SimPO, SoLoPO, solo_ra_penalty, solopo_loss

BASES = [DPO, IPO, SimPO, ORPO]
PENALTIES = ["l1", "softplus", "squared"]
rewards = st.lists(st.tuples(st.floats(-20, 20), st.floats(-20, 20)), min_size=1, max_size=5)


def naive_penalty(short, long, penalty):
    z = abs(short - long)
    return {"l1": z, "softplus": math.log(1 + math.exp(z)), "squared": z * z}[penalty]


def test_hand_values():
    """|r_short - r_long| = |1 - 3| = 2: l1 2, softplus log(1 + e^2) = 2.1269, squared 4."""
    values = [solo_ra_penalty(tensor(1), tensor(3), penalty=penalty).item() for penalty in PENALTIES]
    assert values == pytest.approx([2.0, 2.12692801104, 4.0])
    """Base .5 + alpha 3 * 2."""
    assert solopo_loss(tensor(0.5), tensor(1), tensor(3), alpha=3.0).tolist() == pytest.approx([6.5])


@given(rewards, st.sampled_from(PENALTIES), st.floats(0, 5))
def test_equals_the_naive_loop(rows, penalty, alpha):
    short, long = (tensor(*column) for column in zip(*rows, strict=True))
    base = torch.linspace(0.0, 1.0, len(rows), dtype=torch.float64)
    expected = [b + alpha * naive_penalty(*row, penalty) for b, row in zip(base.tolist(), rows, strict=True)]
    actual = solopo_loss(base, short, long, alpha=alpha, penalty=penalty)
    assert actual.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("penalty", PENALTIES)
def test_gradcheck(penalty):
    short, long = tensor(0.3, -2.0).requires_grad_(), tensor(1.0, 4.0).requires_grad_()
    assert torch.autograd.gradcheck(lambda s, r: solo_ra_penalty(s, r, penalty=penalty), (short, long))


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("detach", [True, False])
def test_detach_short_stops_the_short_gradient_only(penalty, detach):
    short, long = tensor(0.3).requires_grad_(), tensor(1.0).requires_grad_()
    solo_ra_penalty(short, long, penalty=penalty, detach_short=detach).backward()
    assert (short.grad is None) == detach
    assert long.grad.abs() > 0


def test_an_unknown_penalty_is_refused():
    with pytest.raises(ValueError, match="'l1', 'softplus', 'squared'"):
        solo_ra_penalty(tensor(1), tensor(1), penalty="l2")  # type: ignore[arg-type]


POLICY = {
    ("short", "chosen"): [-2.0, -3.0],
    ("short", "rejected"): [-4.0, -2.5],
    ("long", "chosen"): [-5.0, -3.5],
    ("long", "rejected"): [-4.5, -6.0],
}
REFERENCE = {where: [value - 0.5 * n for n, value in enumerate(values)] for where, values in POLICY.items()}


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("align", ["chosen", "both"])
def test_alpha_zero_is_the_base_loss_on_the_short_context(base, align):
    module = SoLoPO(base=base(), alpha=0.0, align=align)
    losses, _ = module.loss(scores(POLICY), scores(REFERENCE))
    plain, _ = base(context="short").loss(scores(POLICY), scores(REFERENCE))
    torch.testing.assert_close(losses, plain)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("penalty", ["l1", "squared"])
def test_equal_contexts_give_no_penalty(base, penalty):
    policy = {(context, role): POLICY["short", role] for context, role in POLICY}
    reference = {(context, role): REFERENCE["short", role] for context, role in POLICY}
    _, metrics = SoLoPO(base=base(), align="both", penalty=penalty).loss(scores(policy), scores(reference))
    assert metrics["solo_ra"].abs().max() < 1e-12


def gradients(**options):
    """Of the summed losses, by view: short chosen, short rejected, long chosen, each of two examples."""
    policy = scores(POLICY)
    policy.sums.requires_grad_()
    SoLoPO(base=SimPO(), **options).loss(policy, None)[0].sum().backward()
    return policy.sums.grad.view(4, 2)[:3]


def test_the_alignment_moves_the_short_reward_only_where_it_is_not_held():
    settings = [(0, True), (2, True), (2, False)]
    base, held, free = (gradients(alpha=alpha, detach_short=detach) for alpha, detach in settings)
    torch.testing.assert_close(held[:2], base[:2])
    torch.testing.assert_close(held[2].abs(), 2 * SimPO().algorithm.beta / tensor(2, 2))
    torch.testing.assert_close(free[0], base[0] - held[2])
    torch.testing.assert_close(free[2], held[2])


@pytest.mark.parametrize("base", BASES)
def test_both_adds_the_rejected_alignment(base):
    losses = {}
    for align in ("chosen", "both"):
        losses[align], _ = SoLoPO(base=base(), align=align).loss(scores(POLICY), scores(REFERENCE))
    algorithm = SoLoPO(base=base()).algorithm
    reward = {
        context: algorithm.reward(Scored.of(View(context, "rejected"), scores(POLICY), scores(REFERENCE)))
        for context in ("short", "long")
    }
    expected = algorithm.solopo_alpha * (reward["short"] - reward["long"]).abs()
    torch.testing.assert_close(losses["both"] - losses["chosen"], expected)


def test_the_long_rejected_response_is_never_asked_for_when_aligning_chosen():
    assert View("long", "rejected") not in SoLoPO(base=DPO()).views.policy
    assert View("long", "rejected") in SoLoPO(base=DPO(), align="both").views.policy


def test_only_dpo_needs_a_reference_and_it_sees_the_same_contexts():
    assert SoLoPO(base=DPO()).views.reference == SoLoPO(base=DPO()).views.policy
    assert not SoLoPO(base=SimPO()).views.reference
    assert not SoLoPO(base=ORPO()).views.reference


def test_paper_alphas_are_the_defaults():
    assert {base: SoLoPO(base=base()).alpha for base in BASES} == {DPO: 3.0, IPO: 3.0, SimPO: 1.0, ORPO: 1.0}
    assert SoLoPO(base=DPO(), alpha=0.5).alpha == 0.5


def test_without_arguments_it_is_orpo_with_the_short_reward_held():
    module = SoLoPO()
    assert (module.algorithm, module.alpha, module.detach_short) == (ORPO(beta=0.1).algorithm, 1.0, True)


def test_the_base_is_an_algorithm_with_its_own_arguments_and_no_module_inside():
    module = SoLoPO(base=SimPO(beta=3.0, gamma=0.5))
    assert module.algorithm == SimPO(beta=3.0, gamma=0.5).algorithm
    assert not list(module.modules())[1:]


def test_a_base_brings_no_context_of_its_own():
    with pytest.raises(ValueError, match=r"remove `model\.init_args\.base\.init_args\.context`"):
        SoLoPO(base=DPO(context="long"))
