"""A model's own dropout is noise in a reward: trl#744, trl#2042, LLaMA-Factory#10779."""

import pytest
import torch
from lightning.pytorch import Trainer
from support.preference_data import RandomPairs
from support.tiny_models import tiny_config
from support.word_tokenizer import word_tokenizer
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, DbrxConfig, MptConfig

from lit_longpo.engine import base_model, plan_scoring
from lit_longpo.errors import InputError
from lit_longpo.objectives import ORPO
from lit_longpo.policy import LoRA, PolicyConfig
from lit_longpo.policy.weights.dropout import dropouts, turn_off

GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
OPT = {"hidden_size": 32, "ffn_dim": 48, "word_embed_proj_dim": 32, "layerdrop": 0.5}
OWN = {
    "GPT2": {**GPT2, "resid_pdrop": 0.4, "embd_pdrop": 0.4, "attn_pdrop": 0.4},
    "OPT": {**OPT, "dropout": 0.4, "attention_dropout": 0.4, "activation_dropout": 0.4},
    "Phi": {"resid_pdrop": 0.4, "embd_pdrop": 0.4},
    "Starcoder2": {"residual_dropout": 0.4, "embedding_dropout": 0.4, "attention_dropout": 0.4},
    "Granite": {"attention_dropout": 0.4},
    "Mixtral": {"router_jitter_noise": 0.4},
    "MiniMaxM2": {"router_jitter_noise": 0.4},
    "GPTNeoX": {"hidden_dropout": 0.4, "attention_dropout": 0.4},
}


@pytest.mark.parametrize(("name", "lora"), [*((name, None) for name in OWN), ("Phi", LoRA(r=2))])
def test_a_policy_in_training_gives_what_its_model_gives(name, lora, tmp_path):
    model = AutoModelForCausalLM.from_config(tiny_config(name, **OWN[name]))
    model.save_pretrained(tmp_path)
    word_tokenizer().save_pretrained(tmp_path)
    ids = torch.randint(3, 96, (1, 12))
    policy = PolicyConfig(source=str(tmp_path), lora=lora).load()
    base_model(policy).set_attn_implementation("eager")
    assert policy.training
    with torch.no_grad():
        expected = model.eval()(input_ids=ids).logits
        for _ in range(2):
            torch.testing.assert_close(policy(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-5)


def test_a_loaded_policy_says_what_is_off(tmp_path, caplog):
    AutoModelForCausalLM.from_config(tiny_config("Phi", resid_pdrop=0.25)).save_pretrained(tmp_path)
    word_tokenizer().save_pretrained(tmp_path)
    with caplog.at_level("INFO"):
        PolicyConfig(source=str(tmp_path)).load()
    assert "own dropout is off, as the reference's is: {'resid_pdrop': 0.25}" in caplog.text
    assert AutoConfig.from_pretrained(tmp_path).resid_pdrop == 0.25


def test_parts_of_a_configuration_drop_nothing_either():
    config = MptConfig(attn_config={"attn_pdrop": 1}, resid_pdrop=0.2, emb_pdrop=0.0)
    assert dropouts(config) == {"attn_pdrop": 1.0, "resid_pdrop": 0.2}
    turn_off(config)
    assert dropouts(config) == {}
    assert config.attn_config.attn_pdrop == 0


def test_jitter_of_a_part_is_off():
    config = DbrxConfig(ffn_config={"moe_jitter_eps": 0.01})
    turn_off(config)
    assert config.ffn_config.moe_jitter_eps == 0


def test_what_is_for_another_head_is_left_alone():
    assert dropouts(tiny_config("GPTNeoX", classifier_dropout=0.1)) == {}


@pytest.fixture(scope="module")
def drawing(tmp_path_factory):
    """A model whose experts are drawn by chance in training, whatever its settings say."""
    folder = tmp_path_factory.mktemp("phimoe")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(tiny_config("Phimoe", num_local_experts=4, input_jitter_noise=0.4))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.25) if parameter.dim() > 1 else None
    model.save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return str(folder)


def test_experts_that_are_drawn_by_chance_are_refused_before_weights_are_read(drawing, monkeypatch):
    monkeypatch.setattr(PolicyConfig, "load", lambda policy: pytest.fail("loaded"))
    module = ORPO(policy=PolicyConfig(source=drawing))
    options = {"logger": False, "enable_checkpointing": False}
    with pytest.raises(InputError, match="draw experts at random"):
        Trainer(max_steps=1, accelerator="cpu", **options).fit(module, datamodule=RandomPairs(module.views))


def test_experts_that_are_drawn_in_training_are_chosen_where_nothing_is_trained(drawing):
    """As a reference, asked or exported, to the model's own values; its threshold of that name stays."""
    policy = PolicyConfig(source=drawing)
    assert policy.config().router_jitter_noise > 0
    base, loaded = policy.load_base().eval(), policy.load().eval()
    plain = AutoModelForCausalLM.from_pretrained(drawing).eval()
    ids = torch.randint(3, 96, (1, 12), generator=torch.Generator().manual_seed(0))
    assert plan_scoring(base).error < 1e-5
    with torch.no_grad():
        expected = plain(input_ids=ids).logits
        for model in (base, loaded):
            base_model(model).set_attn_implementation("eager")
            torch.testing.assert_close(model(input_ids=ids).logits, expected, rtol=1e-5, atol=1e-5)
