import dataclasses
import inspect

import pytest
import torch
from support.scores import leaves, scores, tensor, token_counts

from lit_longpo.batch import Scores, Slot, View
from lit_longpo.errors import InputError
from lit_longpo.objectives import DPO, IPO, LOGO, ORPO, LongPO, PairwiseModule, Scored, SimPO, SoLoPO
from lit_longpo.objectives.dpo import DPOAlgorithm
from lit_longpo.objectives.pairwise import PairwiseAlgorithm, pair_metrics
from lit_longpo.policy import PolicyConfig, ReferenceConfig

PAIR = (View("long", "chosen"), View("long", "rejected"))


@pytest.mark.parametrize("objective", [DPO, IPO, SimPO, ORPO])
def test_views_are_the_pair_in_the_long_context_unless_told_otherwise(objective):
    assert objective().views.policy == PAIR
    assert objective().views.reference == (PAIR if objective in (DPO, IPO) else ())
    assert {view.context for view in objective(context="short").views.policy} == {"short"}


def test_of_several_rejected_responses_the_first_is_taken():
    slots = (Slot(0, "long", "rejected", 0), Slot(0, "long", "rejected", 1))
    policy = Scores(tensor(-4, -9), tensor(2, 3), slots)
    response = Scored.of(View("long", "rejected"), policy, None)
    assert (response.log_probs.tolist(), response.num_tokens.tolist(), response.reference) == ([-4.0], [2.0], None)


def test_metrics_are_the_algorithms_rewards_and_carry_no_gradient():
    policy = scores({("long", "chosen"): [-4.0, -2.0], ("long", "rejected"): [-6.0, -1.0]})
    policy.sums.requires_grad_()
    chosen, rejected = (Scored.of(view, policy, None) for view in PAIR)
    metrics = pair_metrics(SimPO(beta=2.0).algorithm, chosen, rejected)
    assert {name: value.tolist() for name, value in metrics.items()} == {
        "rewards/chosen": [-4.0, -2.0],
        "rewards/rejected": [-6.0, -1.0],
        "rewards/margins": [2.0, -1.0],
        "rewards/accuracies": [1.0, 0.0],
        "logps/chosen": [-4.0, -2.0],
        "logps/rejected": [-6.0, -1.0],
        "nll": [2.0, 1.0],
    }
    assert not any(value.requires_grad for value in metrics.values())


def test_only_papers_can_be_named_in_a_recipe():
    assert inspect.isabstract(PairwiseModule)
    assert not any(inspect.isabstract(objective) for objective in (DPO, IPO, SimPO, ORPO))


def test_a_bare_algorithm_is_that_of_the_module():
    module = DPO(beta=0.2)
    assert module.bare_algorithm() is module.algorithm
    assert module.algorithm.beta == 0.2


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"context": "long"}, "context"),
        ({"policy": PolicyConfig()}, "policy"),
        ({"context": "short", "reference": ReferenceConfig()}, "context and reference"),
    ],
)
def test_a_base_with_settings_of_a_training_is_refused(settings, named):
    with pytest.raises(
        ValueError, match=rf"only DPO's own arguments .*, got {named}, which.*remove `model\.init_args\.base\."
    ):
        DPO(**settings).bare_algorithm()


TAKING = [DPO(beta=0.3), SimPO(beta=2.0, gamma=0.5), ORPO(beta=0.4)]


def logit(value):
    return torch.log(torch.expm1(value))


@pytest.mark.parametrize("module", TAKING, ids=lambda module: type(module).__name__)
def test_a_margin_shifts_what_the_sigmoid_sees_and_nothing_else(module):
    """-log sigmoid(z) = log(1 + e^-z), so its inverse gives back z; ORPO's likelihood term is beside the sigmoid."""
    sums = {("long", "chosen"): [-4.0, -2.0, -3.0], ("long", "rejected"): [-6.0, -1.5, -3.5]}
    policy, margins = scores(sums), tensor(0.7, -0.4, 0.0)
    losses, metrics = module.loss(policy, policy)
    moved, same = module.loss(dataclasses.replace(policy, margins=margins), policy)
    if isinstance(module, ORPO):
        losses, moved = (((loss - metrics["nll"]) / 0.4) for loss in (losses, moved))
    torch.testing.assert_close(logit(moved) - logit(losses), margins)
    assert {name: value.tolist() for name, value in metrics.items()} == {k: v.tolist() for k, v in same.items()}


@pytest.mark.parametrize("module", TAKING, ids=lambda module: type(module).__name__)
def test_gradients_with_margins_are_those_of_the_loss(module):
    (chosen_tokens, rejected_tokens), margins = token_counts(0, 2), tensor(0.5, -0.2, 1.0)

    def loss(chosen, rejected, reference_chosen, reference_rejected):
        return module.algorithm.loss(
            Scored(chosen, chosen_tokens, reference_chosen, margins),
            Scored(rejected, rejected_tokens, reference_rejected, margins),
        )

    assert torch.autograd.gradcheck(loss, leaves(0, 4))


@pytest.mark.parametrize("objective", [DPO, SimPO, ORPO, IPO])
def test_who_takes_margins_says_so_under_solopo_too(objective):
    assert objective().views.margins == SoLoPO(base=objective()).views.margins == (objective is not IPO)


@pytest.mark.parametrize("objective", [LongPO, LOGO])
def test_longpo_and_logo_take_margins(objective):
    assert objective().views.margins


class Plain(PairwiseAlgorithm):
    def __init__(self, scale):
        self.scale = scale

    def reward(self, response):
        return self.scale * response.log_probs

    def loss(self, chosen, rejected):
        return self.reward(rejected) - self.reward(chosen)


class OfDataclass(DPOAlgorithm):
    """No dataclass itself: only the fields of the class above are recorded."""

    def __init__(self, scale):
        super().__init__(beta=0.1)
        object.__setattr__(self, "scale", scale)


@pytest.mark.parametrize("algorithm", [Plain, OfDataclass])
def test_an_algorithm_whose_numbers_nobody_could_record_is_refused(algorithm):
    """A run was continued under another `scale` without a word, as itself and as SoLoPO's base."""

    class Own(PairwiseModule):
        def __init__(self, scale=0.1, **module):
            super().__init__(algorithm(scale), **module)

    with pytest.raises(InputError, match=rf"expected {algorithm.__name__} to be a dataclass.* \(scale\); write"):
        SoLoPO(base=Own())


def test_a_base_with_a_loss_of_its_own_is_refused():
    """SoLoPO trained the algorithm of the class above, without a word."""

    class Own(DPO):
        def loss(self, policy, reference):
            losses, metrics = super().loss(policy, reference)
            return 2 * losses, metrics

    with pytest.raises(
        InputError, match=r"got Own\.loss, which would have no effect; move it into the `loss` of a Pair"
    ):
        SoLoPO(base=Own())
