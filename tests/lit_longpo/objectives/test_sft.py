import pytest
import torch
from support.scores import leaves, scores, tensor, token_counts

from lit_longpo.batch import Scores, Slot, View, Views
from lit_longpo.objectives import SFT, sft_loss


def test_hand_value_and_naive_loop():
    sums, counts = [-4.0, -2.0, -0.5], [4.0, 1.0, 2.0]
    assert sft_loss(tensor(*sums), tensor(*counts)).tolist() == [1.0, 2.0, 0.25]


def test_gradcheck():
    (counts,) = token_counts(0, 1)
    assert torch.autograd.gradcheck(lambda chosen: sft_loss(chosen, counts), leaves(0, 1))


@pytest.mark.parametrize("context", ["short", "long"])
def test_it_averages_over_the_tokens_of_the_view_it_declares(context):
    policy = scores({(context, "chosen"): [-4.0, -2.0]}, {"chosen": [4, 1]})
    module = SFT(context=context)
    assert module.views == Views(policy=(View(context, "chosen"),))
    losses, metrics = module.loss(policy, None)
    torch.testing.assert_close(losses, tensor(1.0, 2.0))
    assert not any(value.requires_grad for value in metrics.values())


def test_the_sequence_weight_adds_the_whole_sequences_mean():
    """Chosen -4 over 2 tokens, the rest -12 over 6: answer 2, sequence 16 / 8 = 2; 2 + .5 * 2."""
    slots = (Slot(0, "long", "chosen", 0), Slot(0, "long", "rest", 0))
    module = SFT(sequence_weight=0.5)
    assert module.views.sequence == ("long",)
    losses, metrics = module.loss(Scores(tensor(-4, -12), tensor(2, 6), slots), None)
    assert losses.tolist() == [3.0]
    assert metrics["sequence_nll"].tolist() == [2.0]
