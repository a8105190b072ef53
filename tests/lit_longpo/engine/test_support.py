import pytest
import torch
import transformers
from support.tiny_models import ARCHITECTURES, REFUSED, tiny_config, tiny_model
from torch import nn

from lit_longpo.engine import UnsupportedModelError, check_model
from lit_longpo.engine.support import probe, refusal


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_suitable_models_pass(name):
    assert check_model(tiny_model(name)) < 1e-5


@pytest.mark.parametrize("name", REFUSED)
def test_unsuitable_models_are_refused_by_name(name):
    model = tiny_model(name)
    with pytest.raises(UnsupportedModelError, match=rf"^{type(model).__name__}"):
        check_model(model)


def test_the_refusal_names_class_and_cause():
    model = tiny_model("Qwen3Next")
    with pytest.raises(UnsupportedModelError, match=r"Qwen3NextForCausalLM.*linear_attention"):
        check_model(model)


class RunningMean(nn.Module):
    """A layer that carries state along the row, as a linear-attention branch does."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        steps = torch.arange(1, hidden.shape[1] + 1).view(1, -1, 1)
        return self.inner(hidden) + hidden.cumsum(dim=1) / steps


def test_the_probe_catches_state_that_no_configuration_shows():
    model = tiny_model("Llama")
    layer = model.model.layers[0]
    layer.mlp = RunningMean(layer.mlp)
    assert refusal(model.config) is None
    with pytest.raises(UnsupportedModelError, match=r"LlamaForCausalLM.*carries state"):
        check_model(model)


def test_the_probe_catches_a_head_scale_we_do_not_know():
    model = tiny_model("Llama")
    forward = model.forward

    def scaled(*args, **kwargs):
        output = forward(*args, **kwargs)
        output.logits = output.logits * 1.1
        return output

    model.forward = scaled
    assert probe(model)[0] > 1e-3


@pytest.mark.parametrize(
    ("overrides", "cause"),
    [
        ({"attention_dropout": 0.1}, "attention_dropout: 0"),
    ],
)
def test_configurations_that_cannot_be_exact(overrides, cause):
    assert cause in str(refusal(tiny_config("Llama", **overrides)))


def test_checking_leaves_the_model_as_it_was():
    model = tiny_model()
    state = torch.get_rng_state()
    check_model(model)
    assert model.training
    assert model.config._attn_implementation == "prefix_shared"
    assert torch.equal(state, torch.get_rng_state())
    assert isinstance(model, transformers.PreTrainedModel)
