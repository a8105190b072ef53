"""A model that is asked drops nothing, keeps no gradients, and goes on in the mode that it was in."""

import pytest
import torch
from torch import nn

from lit_longpo.engine import eval_mode


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_put_back_also_behind_an_error(training):
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).train(training)
    with eval_mode(model):
        assert not any(part.training for part in model.modules())
        assert not torch.is_grad_enabled()
    assert all(part.training is training for part in model.modules())
    with pytest.raises(ValueError, match="stop"), eval_mode(model):
        raise ValueError("stop")
    assert all(part.training is training for part in model.modules())
    assert torch.is_grad_enabled()
