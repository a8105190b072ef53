"""A model that is asked drops nothing, keeps no gradients, and goes on in the mode that it was in."""

import pytest
import torch
from support.groups import random_groups
from support.tiny_models import tiny_model
from torch import nn

from lit_longpo.engine import eval_mode, generation_mode, pack, score
from lit_longpo.engine.attention import PREFIX_SHARED


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


@pytest.mark.parametrize(("name", "own"), [("Llama", "sdpa"), ("Gemma2", "eager"), ("GptOss", "eager")])
def test_generation_mode_restores_everything(name, own, monkeypatch):
    """And takes an attention that leaves nothing out: transformers lets Gemma 3 have "sdpa", which knows no cap."""
    model = tiny_model(name)
    if name == "Gemma2":
        monkeypatch.setattr(type(model), "_supports_sdpa", True)
    ids = torch.tensor([[3, 4, 5]])
    with generation_mode(model):
        assert model.config._attn_implementation == own
        assert not model.training
        model.generate(ids, max_new_tokens=2, do_sample=False)
    assert model.config._attn_implementation == PREFIX_SHARED
    assert model.training
    score(model, pack(random_groups([(4, [2])])))
