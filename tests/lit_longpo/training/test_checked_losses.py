"""What an objective of somebody else may return by mistake: each was trained, or ended in another's traceback."""

import pytest
import torch

from lit_longpo.batch import Scores, Slot
from lit_longpo.errors import InputTypeError
from lit_longpo.training.checked_losses import checked_losses

SUMS = torch.tensor([-1.0, -2.0, -3.0, -4.0], requires_grad=True)
SLOTS = tuple(Slot(n, "long", role, 0) for n in range(2) for role in ("chosen", "rejected"))
SCORES = Scores(SUMS, torch.ones(4), SLOTS)
CHOSEN, REJECTED = SCORES.log_probs("long", "chosen"), SCORES.log_probs("long", "rejected")


def test_one_of_every_example_passes():
    losses, metrics = checked_losses("Own", (-CHOSEN, {"nll": -CHOSEN.detach()}), SCORES)
    assert losses.tolist() == metrics["nll"].tolist() == [1.0, 3.0]
    with torch.no_grad():
        checked_losses("Own", (-CHOSEN.detach(), {}), SCORES)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((REJECTED - CHOSEN, {}), r"got \(2, 2\) for the loss of 2 examples; take no mean, .* the shape \(B, M\)"),
        ((-CHOSEN.mean(), {}), r"got \(\) for the loss of 2 examples"),
        ((-CHOSEN, {"nll": 1.0}), r"got float for the metric 'nll' of 2"),
        ((-CHOSEN, {"nll": REJECTED}), r"got \(2, 1\) for the metric 'nll' of 2"),
        ((-CHOSEN, {"loss": -CHOSEN}), r"got one called 'loss', which would be trained in its place"),
        ((-CHOSEN.detach(), {}), r"got losses without a gradient"),
        (-CHOSEN, r"got Tensor; return losses, metrics"),
    ],
)
def test_anything_else_is_one_line(given, said):
    with pytest.raises(InputTypeError, match=r"expected Own\.loss to return losses and a dictionary .*" + said):
        checked_losses("Own", given, SCORES)
