import pytest
import torch
from lightning.pytorch import Trainer
from support.preference_data import RandomPairs
from support.tiny_hybrids import tiny_hybrid
from support.tiny_models import tiny_model

from lit_longpo.objectives import SFT
from lit_longpo.policy import LoRA, PolicyConfig
from lit_longpo.policy.adapters.targets import check_targets
from lit_longpo.policy.trained_names import check_trained_names

WRONG = {
    "target_modules": ({"lora": LoRA(target_modules=["q_proj", "v_prj"])}, r"got v_prj.*did you mean v_proj"),
    "also_train": (
        {"lora": LoRA(also_train=["embed_tokns"])},
        r"lora\.also_train`.*did you mean embed_tokens",
    ),
    "train_only": ({"train_only": ["self_atn"]}, r"`policy\.train_only`.*did you mean self_attn"),
    "freeze": ({"freeze": ["layers.7."]}, r"`policy\.freeze`.*got 'layers\.7\.'"),
    "nothing left": ({"freeze": ["weight"]}, "which leave none"),
}
EXPERTS = ["gate_proj", "up_proj", "down_proj"]
TARGETS = {
    "pattern": (r".*\.(q|v)_prj", r"got \.\*.*, which it has not; it has "),
    "a name alone": ("q_proj", r"regular expression of whole names: type \[q_proj\]"),
    "pattern in a list": ([r".*q_proj"], r"got \.\*q_proj.*as one text, without brackets"),
    "no pattern": ("*_proj", r"a list of names, or one regular expression, got '\*_proj'"),
    "nothing": ([], "got none, which it has not"),
    "part": (["self_attn"], r"layers\.0\.self_attn, which is none \(in it: k_proj, o_proj"),
    "head": (["q_proj", "lm_head"], r"without the head of .*, got lm_head; .*--policy\.lora\.also_train '\[lm_head\]'"),
    "head of a pattern": (r"lm_head|.*\.q_proj", "without the head of .*, got lm_head"),
    "norm": (r".*\.(q_proj|input_layernorm)", r"layers\.0\.input_layernorm, which is none;"),
}
WRONG |= {name: ({"lora": LoRA(target_modules=wanted)}, message) for name, (wanted, message) in TARGETS.items()}


@pytest.mark.parametrize(("settings", "message"), WRONG.values(), ids=WRONG)
def test_names_are_compared_before_weights_are_read(settings, message, policy_folder, monkeypatch):
    monkeypatch.setattr(PolicyConfig, "load", lambda policy: pytest.fail("weights were read"))
    module = SFT(policy=PolicyConfig(source=str(policy_folder), **settings))
    trainer = Trainer(max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False)
    with pytest.raises(ValueError, match=message) as error:
        trainer.fit(module, datamodule=RandomPairs(module.views))
    assert "\n" not in str(error.value)


def test_what_peft_refuses_is_refused_before_weights_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(PolicyConfig, "load", lambda policy: pytest.fail("weights were read"))
    tiny_model("Qwen3Moe").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"neither dropout nor DoRA .* stacked experts of Qwen3MoeForCausalLM"):
        check_trained_names(PolicyConfig(source=str(tmp_path), lora=LoRA(dropout=0.1, target_modules=EXPERTS)))


def test_what_loads_passes_and_draws_nothing(policy_folder):
    right = [
        {"lora": LoRA(r=2, target_modules=["q_proj", "mlp.up_proj"], also_train=["embed_tokens", "layers.*norm"])},
        {"lora": LoRA(r=2, target_modules=["q_proj"], also_train=["q_proj.base_layer", "base_model.model.lm_head"])},
        {"lora": LoRA(r=2, target_modules=r".*\.q_proj")},
        {"train_only": ["self_attn"], "freeze": ["layers.1."]},
    ]
    for settings in right:
        policy = PolicyConfig(source=str(policy_folder), **settings)
        policy.load()
        before = torch.random.get_rng_state()
        check_trained_names(policy)
        assert torch.equal(torch.random.get_rng_state(), before)


def test_maps_whose_weights_zero3_has_split_are_maps():
    model = tiny_model("Llama")
    for parameter in model.parameters():
        parameter.ds_shape, parameter.data = parameter.shape, parameter.new_empty(0)
    check_targets(model, ["q_proj"])
    with pytest.raises(ValueError, match="input_layernorm, which is none"):
        check_targets(model, ["input_layernorm"])


@pytest.mark.parametrize("name", ["outproj", "lm_hed"])
def test_no_name_is_suggested_that_cannot_have_adapters(name):
    """Mamba reads the weight of `out_proj` itself, which is refused in its turn; so is a head with adapters."""
    with pytest.raises(ValueError, match=f"got {name}, which it has not") as refused:
        check_targets(tiny_hybrid("NemotronH"), [name])
    assert not any(name in str(refused.value) for name in ("out_proj", "lm_head"))


def test_nothing_is_built_where_nothing_was_named(monkeypatch):
    monkeypatch.setattr(PolicyConfig, "original_config", lambda policy: pytest.fail("a shape was built"))
    check_trained_names(PolicyConfig(lora=LoRA(r=2)))
    check_trained_names(PolicyConfig())
