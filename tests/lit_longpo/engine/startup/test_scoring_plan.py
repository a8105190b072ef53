"""What is said of models that cannot be scored, or not at every position."""

import pytest
import torch
import transformers
from support.groups import random_groups
from support.parity import values_and_gradients
from support.tiny_hybrids import tiny_hybrid
from support.tiny_models import tiny_config
from torch import nn

from lit_longpo.engine import UnsupportedModelError, pack, plan_scoring
from lit_longpo.engine.scoring import row_log_probs
from lit_longpo.engine.ulysses import sequence_parallel
from lit_longpo.policy import PolicyConfig


def scaled(model, factor):
    forward = model.forward

    def changed(*args, **kwargs):
        output = forward(*args, **kwargs)
        output.logits = output.logits * factor()
        return output

    model.forward = changed
    return model


def plain_model(name, **options):
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(tiny_config(name, **options))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.25) if parameter.dim() > 1 else None
    return model


def test_a_head_that_we_do_not_know_is_asked_for_its_own_logits():
    plan = plan_scoring(scaled(tiny_hybrid("StableLm"), lambda: 1.1))
    assert (plan.path, plan.error < 1e-5) == ("own_logits", True)


def test_no_path_is_taken_where_the_model_does_not_know_itself():
    model = scaled(tiny_hybrid("StableLm"), lambda: 1.0 + torch.rand(()))
    with pytest.raises(UnsupportedModelError, match=r"got StableLmForCausalLM, which does not give the same"):
        plan_scoring(model.eval())


def test_weights_that_are_no_numbers_are_told_as_such():
    """They were "no causal language model", and the advice was another one."""
    model = plain_model("Llama")
    model.model.layers[0].mlp.down_proj.weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"expected logits that are numbers, got NaN .* load weights that are whole"):
        plan_scoring(model)


@pytest.mark.parametrize(("name", "dtype"), [("xLSTM", "bfloat16"), ("DeepseekV4", "float16")])
def test_a_model_whose_code_mixes_precisions_is_told_what_to_type(name, dtype, tmp_path):
    """transformers itself cannot run them so; it ended in a traceback of torch's."""
    xlstm = transformers.xLSTMConfig(vocab_size=96, hidden_size=64, embedding_dim=64, num_heads=2, num_hidden_layers=2)
    model = transformers.AutoModelForCausalLM.from_config(xlstm) if name == "xLSTM" else tiny_hybrid(name)
    model.save_pretrained(tmp_path)
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype, attn_implementation="eager")
    with pytest.raises(RuntimeError, match="same dtype"):
        plain(input_ids=torch.arange(3, 83)[None], use_cache=False)
    with pytest.raises(UnsupportedModelError, match=rf"computes in {dtype}, got {name}.*set `policy\.dtype: float32`"):
        plan_scoring(PolicyConfig(source=str(tmp_path), dtype=dtype).load())


@pytest.mark.parametrize(("name", "told"), [("Bert", True), pytest.param("XLM", False, marks=pytest.mark.slow)])
def test_encoders_are_told_from_decoders(name, told):
    """Not by the mask alone: their tokens see later ones."""
    own = {
        "Bert": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
        "XLM": {"emb_dim": 32, "n_layers": 2, "n_heads": 4, "dropout": 0.0, "attention_dropout": 0.0},
    }
    model = plain_model(name, **own[name])
    with pytest.raises(UnsupportedModelError, match=r"expected a causal .* later ones as an encoder's do") as refused:
        plan_scoring(model)
    assert ("`is_decoder: true`" in str(refused.value)) == told


@pytest.mark.parametrize(
    ("name", "options", "cause"),
    [
        ("Mamba2", {}, "read no positions"),
        pytest.param("DeepseekV4", {}, "a token sees later ones", marks=pytest.mark.slow),
        ("Roberta", {"is_decoder": True, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}, "its own"),
    ],
)
def test_rows_with_leaps_are_refused_where_they_would_mean_something_else(name, options, cause):
    model = plain_model(name, **options) if options else tiny_hybrid(name)
    assert cause in plan_scoring(model).no_leaps
    row_log_probs(model, pack(random_groups([(9, [3])])))
    with pytest.raises(UnsupportedModelError, match=rf"{cause}.*; type --data.init_args.positions null"):
        row_log_probs(model, pack(random_groups([(9, [3])], jump=True)))


def test_leaps_are_refused_in_half_precision_as_in_single(tmp_path):
    """What DeepSeek-V4's tokens see of later ones moves its answers by less than bf16's tolerance for them."""
    tiny_hybrid("DeepseekV4").save_pretrained(tmp_path)
    plans = [plan_scoring(PolicyConfig(source=str(tmp_path), dtype=each).load()) for each in ("float32", "bfloat16")]
    assert ["a token sees later ones" in str(plan.no_leaps) for plan in plans] == [True, True]


def test_key_biases_without_rotation_have_no_gradient():
    """A bias of all keys adds the same to every score of a query: what fp32 leaves of its gradient is noise."""
    model = transformers.AutoModelForCausalLM.from_config(
        tiny_config("BioGpt", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, activation_dropout=0.0),
        attn_implementation="prefix_shared",
    ).double()
    assert plan_scoring(model).path == "packed"
    row = pack(random_groups([(9, [4, 3]), (5, [2])]))
    _, gradients = values_and_gradients(model, row_log_probs(model, row))
    largest = max(gradient.abs().max() for gradient in gradients.values())
    biases = [gradient for name, gradient in gradients.items() if name.endswith("k_proj.bias")]
    assert max(gradient.abs().max() for gradient in biases) < 1e-14 * largest


def test_ranks_that_share_rows_are_refused_for_that(monkeypatch):
    model = tiny_hybrid("StableLm")
    monkeypatch.setattr(model, "_can_set_attn_implementation", lambda: False)
    monkeypatch.setattr(sequence_parallel, "_ranks", sequence_parallel.SequenceRanks(2, 0))
    with pytest.raises(UnsupportedModelError, match=r"one sequence at a time, which 2 ranks .*sequence_parallel: 1"):
        plan_scoring(model)
