import sys

import pytest
import torch
import transformers
from support.groups import random_groups
from support.padded_rows import rows_of
from support.tiny_hybrids import tiny_hybrid
from support.tiny_models import ARCHITECTURES, tiny_config, tiny_model
from torch import nn

from lit_longpo.engine import ATTENTION_NAMES, UnsupportedModelError, check_model, pack, plan_scoring, states
from lit_longpo.engine.layers import dropout_problem, packing_refusal
from lit_longpo.engine.scoring import row_log_probs
from lit_longpo.engine.sequential.sequences import score_packed
from lit_longpo.engine.startup.probe import leaked_states, probe
from lit_longpo.engine.states import mixers


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_suitable_models_pass(name):
    assert check_model(tiny_model(name)) < 1e-5


def test_the_refusal_names_class_and_cause():
    with pytest.raises(UnsupportedModelError, match=r"MambaForCausalLM.*\['MambaMixer'\] cannot be handed"):
        check_model(tiny_model("Mamba"))


def plain_convolution(monkeypatch, model, *, entered):
    """Let the model's convolutions run along the row, whatever the table says."""
    code = sys.modules[type(mixers(model)[0]).__module__]
    plain = code.causal_conv1d_fn.__wrapped__

    def along_the_row(*args, segment_table=None, **options):
        states._entered["convolution"] += entered and segment_table is not None
        return plain(*args, **options)

    along_the_row.shares_states = True
    monkeypatch.setattr(code, "causal_conv1d_fn", along_the_row)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_state_that_leaks_is_found_in_any_precision(dtype, monkeypatch):
    model = tiny_hybrid("FalconH1").to(dtype)
    score_packed(model)
    assert leaked_states(model) is None
    plain_convolution(monkeypatch, model, entered=True)
    assert "from one response to the next" in leaked_states(model)


def test_a_state_out_of_reach_ends_in_single_sequences(monkeypatch):
    """Layers that lose keywords on the way to their functions; half precision would let some of them pass."""
    model = tiny_hybrid("Lfm2")
    plain_convolution(monkeypatch, model, entered=False)
    plan = plan_scoring(model)
    assert plan.path == "sequential"
    assert plan.error < 1e-5
    assert "1 of 1 convolutions" in plan.cause
    monkeypatch.undo()
    assert plan_scoring(model).path == "packed"


def test_what_a_packed_row_gets_wrong_is_scored_alone():
    model = tiny_model("Llama")
    layer = model.model.layers[0]
    layer.mlp = RunningMean(layer.mlp)
    plan = plan_scoring(model)
    assert (plan.path, plan.error < 1e-5) == ("sequential", True)
    assert "carries state between responses" in plan.cause
    groups = random_groups([(9, [4, 3]), (5, [2])])
    ours, theirs = row_log_probs(model, pack(groups)), torch.cat([one(model, *row) for row in rows_of(groups)])
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_the_cause_is_said_to_whoever_trains():
    """Not which function to call: nobody who runs `fit` called any."""
    cause = plan_scoring(tiny_hybrid("StableLm")).cause
    assert cause.endswith("its code does not let StableLmAttention know where one response ends and the next begins")
    assert "`" not in cause


def one(model, group, response):
    """A sequence through the whole model, without any of our code."""
    ids = torch.tensor([group.prompt_ids + response.token_ids])
    log_probs = model(input_ids=ids).logits[0].log_softmax(-1)
    start = len(group.prompt_ids)
    return log_probs[start - 1 : -1].gather(1, ids[0, start:, None])[:, 0]


def test_another_path_never_stands_in_for_what_was_asked_for():
    dropping = tiny_model("Llama", attention_dropout=0.1)
    with pytest.raises(UnsupportedModelError, match="set `attention_dropout: 0`"):
        plan_scoring(dropping)
    flash = tiny_model("Llama")
    flash.set_attn_implementation(ATTENTION_NAMES["flash"])
    with pytest.raises(UnsupportedModelError, match=r"for `policy\.attention: flash`"):
        plan_scoring(flash)


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
    assert packing_refusal(model.config) is None
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


def test_a_configuration_that_cannot_be_exact():
    assert "attention_dropout: 0" in dropout_problem(tiny_config("Llama", attention_dropout=0.1))


def test_checking_leaves_the_model_as_it_was():
    model = tiny_model()
    state = torch.get_rng_state()
    check_model(model)
    assert model.training
    assert model.config._attn_implementation == "prefix_shared"
    assert torch.equal(state, torch.get_rng_state())
    assert isinstance(model, transformers.PreTrainedModel)
