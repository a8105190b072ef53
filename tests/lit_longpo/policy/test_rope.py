import json
import math
from contextlib import nullcontext

import pytest
import torch
import transformers
from support.groups import random_groups
from support.tiny_models import ARCHITECTURES, tiny_config
from transformers import AutoConfig, AutoModelForCausalLM

from lit_longpo.engine import check_model, pack, score
from lit_longpo.engine.attention import ordinary_attention
from lit_longpo.errors import InputError
from lit_longpo.policy import LoRA, PolicyConfig, RoPE
from lit_longpo.policy.fingerprint import model_fingerprint
from lit_longpo.policy.reference.reference import reference_mode
from lit_longpo.policy.rope import original_rope, refuse_unknown_type
from lit_longpo.policy.window import trained_length

ROW = pack(random_groups([(40, [2, 3])]))


def policy(folder, **options):
    return PolicyConfig(source=str(folder), **options)


@pytest.mark.parametrize("rope", [RoPE(theta=1e7), RoPE(type="yarn", factor=4.0), RoPE(type="linear", factor=4.0)])
def test_other_positions_change_the_policy_and_not_its_reference(rope, policy_folder):
    plain, changed = policy(policy_folder), policy(policy_folder, rope=rope)
    expected, model = score(plain.load(), ROW).sums, changed.load()
    assert not torch.allclose(score(model, ROW).sums, expected, rtol=1e-3)
    before = changed.config_before_rope()
    with reference_mode(model), original_rope(model, before):
        torch.testing.assert_close(score(model, ROW).sums, expected, rtol=0, atol=0)
    assert not torch.allclose(score(model, ROW).sums, expected, rtol=1e-3)
    assert model_fingerprint(model, before) == model_fingerprint(plain.load(), plain.original_config())
    assert model_fingerprint(model) != model_fingerprint(model, before)


def test_adapters_and_original_positions_are_both_off(policy_folder):
    changed = policy(policy_folder, rope=RoPE(theta=500.0), lora=LoRA(r=2))
    model = changed.load()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    with reference_mode(model), original_rope(model, changed.config_before_rope()):
        torch.testing.assert_close(score(model, ROW).sums, score(policy(policy_folder).load(), ROW).sums)


@pytest.mark.parametrize(
    ("name", "rope"),
    [
        ("DeepseekV3", RoPE(theta=500.0)),
        ("DeepseekV3", RoPE(factor=40.0)),
        ("DeepseekV3", RoPE(type="linear", factor=4.0)),
        ("Llama", RoPE(factor=40.0)),
    ],
)
def test_a_reference_whose_attention_is_scaled_for_the_policy_is_refused(name, rope, tmp_path):
    """DeepSeek's attention takes a temperature from YaRN's factor when it is built; angles alone come back.

    The thread is about where that temperature is read (prime-rl#2681).
    """
    yarn = {"rope_type": "yarn", "factor": 4.0, "mscale": 1.0, "mscale_all_dim": 1.0, "rope_theta": 1e4}
    yarn["original_max_position_embeddings"] = 128
    model = AutoModelForCausalLM.from_config(tiny_config(name, rope_parameters=yarn))
    model.save_pretrained(tmp_path)
    changed = policy(tmp_path, rope=rope)
    stretched = changed.load().eval()
    refused = pytest.raises(InputError, match="deepseek_v3, whose temperature follows the rotary settings")
    scaled = name == "DeepseekV3" and rope.factor is not None
    with refused if scaled else nullcontext(), original_rope(stretched, changed.config_before_rope()):
        found = score(stretched, ROW).sums
    if scaled:
        return
    torch.testing.assert_close(found, score(policy(tmp_path).load().eval(), ROW).sums, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("rope", "expected"),
    [
        (RoPE(theta=1e6), {"rope_theta": 1e6, "rope_type": "default"}),
        (RoPE(type="linear", factor=4.0), {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}),
        (RoPE(type="dynamic", factor=2.0), {"rope_type": "dynamic", "factor": 2.0}),
        (
            RoPE(type="yarn", factor=2.0),
            {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 512},
        ),
        (RoPE(type="yarn", factor=2.0, original_length=256), {"original_max_position_embeddings": 256}),
    ],
)
def test_overrides_reach_the_model_and_survive_export(policy_folder, tmp_path, rope, expected):
    model = policy(policy_folder, rope=rope).load()
    check_model(model)
    model.save_pretrained(tmp_path)
    stored = AutoConfig.from_pretrained(tmp_path).rope_parameters
    assert {name: stored[name] for name in expected} == expected


@pytest.mark.parametrize("kind", ["yarn", "dynamic"])
def test_a_width_of_heads_that_is_left_out_is_no_obstacle(kind, tmp_path):
    """transformers' formulas multiplied Mixtral's `head_dim: null`: `plan` ended in a traceback."""
    torch.manual_seed(0)
    plain = AutoModelForCausalLM.from_config(tiny_config("Mixtral"))
    plain.save_pretrained(tmp_path)
    assert plain.config.head_dim is None
    model = policy(tmp_path, rope=RoPE(type=kind, factor=8.0)).load_base()
    by_hand = {"rope_type": kind, "factor": 8.0, "rope_theta": plain.config.rope_parameters["rope_theta"]}
    by_hand |= {"original_max_position_embeddings": 512} if kind == "yarn" else {}
    stated = AutoConfig.from_pretrained(tmp_path, head_dim=8, rope_parameters=by_hand)
    wanted = AutoModelForCausalLM.from_pretrained(tmp_path, config=stated)
    assert model.config.head_dim == 8  # transformers alone reads what is exported
    assert torch.equal(model.model.rotary_emb.inv_freq, wanted.model.rotary_emb.inv_freq)


def test_a_width_of_heads_that_scaled_files_leave_out_is_no_obstacle_either(tmp_path):
    """transformers ends in a TypeError at them, which we called broken files."""
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128, "rope_theta": 1e4}
    AutoModelForCausalLM.from_config(tiny_config("Mixtral")).save_pretrained(tmp_path)
    AutoConfig.from_pretrained(tmp_path, rope_parameters=yarn).save_pretrained(tmp_path)
    wanted = AutoModelForCausalLM.from_pretrained(tmp_path, head_dim=8)
    assert AutoConfig.from_pretrained(tmp_path).head_dim is None
    ids = torch.arange(3, 60).unsqueeze(0)
    loaded = policy(tmp_path).load_base()
    with ordinary_attention(loaded):
        assert torch.equal(loaded(ids).logits, wanted(ids).logits)


def test_max_length_is_the_new_window(policy_folder):
    assert policy(policy_folder, rope=RoPE(max_length=4096)).load().config.max_position_embeddings == 4096


def test_linear_scaling_is_what_it_says(policy_folder):
    """Positions twice as far apart under factor 2 are the original positions."""
    plain, scaled = policy(policy_folder).load(), policy(policy_folder, rope=RoPE(type="linear", factor=2.0)).load()
    (group,) = random_groups([(10, [1])])
    wide = type(group)(group.example, group.context, group.prompt_ids, group.responses, tuple(range(1, 20, 2)))
    short = wide.responses[0]
    assert len(short.token_ids) == 1  # responses continue one by one, so only the first position can be compared
    near = type(group)(group.example, group.context, group.prompt_ids, group.responses)
    torch.testing.assert_close(score(scaled, pack([wide])).sums, score(plain, pack([near])).sums, rtol=1e-4, atol=1e-4)


def test_only_global_layers_of_mixed_models_change():
    config = tiny_config("Gemma3Text")
    local = dict(config.rope_parameters["sliding_attention"])
    RoPE(theta=123.0).apply(config)
    assert config.rope_parameters["full_attention"]["rope_theta"] == 123.0
    assert config.rope_parameters["sliding_attention"] == local


def test_scaling_a_scaled_model_keeps_what_it_was_trained_on():
    config = tiny_config("Llama", max_position_embeddings=512)
    RoPE(type="yarn", factor=4.0, max_length=2048).apply(config)
    RoPE(type="yarn", factor=8.0, max_length=4096).apply(config)
    assert trained_length(config) == config.rope_parameters["original_max_position_embeddings"] == 512
    assert (config.rope_parameters["factor"], config.max_position_embeddings) == (8.0, 4096)


def test_another_type_takes_nothing_over_from_the_one_before():
    llama3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_theta": 5e5}
    config = tiny_config(
        "Llama", max_position_embeddings=4096, rope_parameters={**llama3, "original_max_position_embeddings": 256}
    )
    RoPE(type="yarn", factor=32.0).apply(config)
    assert config.rope_parameters == {
        "rope_type": "yarn",
        "factor": 32.0,
        "rope_theta": 5e5,
        "original_max_position_embeddings": 256,
    }


def test_dynamic_scaling_starts_at_the_original_length():
    config = tiny_config("Llama")
    RoPE(type="dynamic", factor=4.0, original_length=64).apply(config)
    assert config.max_position_embeddings == 64


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"theta": -5.0}, "theta` above 1 and at most 1e\\+12, got -5.0; 1e7 is LongPO's"),
        ({"theta": float("nan")}, "theta` above 1"),
        ({"theta": float("inf")}, "theta` above 1"),
        ({"type": "linear", "factor": 0.5}, "factor` of at least 1"),
        ({"type": "yarn", "factor": float("nan")}, "factor` of at least 1"),
        ({"type": "yarn", "factor": 4.0, "original_length": 0}, "original_length` of at least 1, got 0"),
        ({"max_length": -1}, "max_length` of at least 1, got -1; null keeps the model's"),
        ({"factor": 4.0}, r"set `policy\.rope\.type: yarn`"),
        ({"type": "linear", "factor": 4.0, "original_length": 64}, "has no use for it"),
    ],
)
def test_settings_without_effect_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RoPE(**settings).apply(tiny_config("Llama"))


def test_errors_say_what_to_type():
    with pytest.raises(ValueError, match=r"policy\.rope\.factor"):
        RoPE(type="yarn")
    with pytest.raises(ValueError, match=r"remove `policy\.rope\.max_length`"):
        RoPE(type="dynamic", factor=2.0, max_length=4096)
    with pytest.raises(ValueError, match=r"remove `policy\.rope`"):
        RoPE(theta=1e6).apply(tiny_config("Mamba"))


def test_a_models_own_dynamic_scaling_takes_no_other_length():
    """Its `max_position_embeddings` is where it begins to stretch: a larger one was another model, unstretched."""
    own = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
    with pytest.raises(ValueError, match=r"remove `policy\.rope\.max_length`, and type --policy\.rope\.factor"):
        RoPE(max_length=4096).apply(tiny_config("Llama", rope_parameters=own))
    RoPE(type="yarn", factor=2.0, max_length=4096).apply(tiny_config("Llama", rope_parameters=own))


@pytest.mark.parametrize("kind", ["foo", ["yarn"]], ids=str)
def test_an_unknown_type_of_scaling_is_said_of_config_json(kind, tmp_path):
    """transformers ends in a KeyError, as if the weights could not be read."""
    tiny_config("Llama").save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    stored["rope_parameters"] = {"rope_type": kind, "rope_theta": 1e4, "factor": 2.0}
    (tmp_path / "config.json").write_text(json.dumps(stored))
    with pytest.raises(ValueError, match=r"expected a `rope_type` .* in the config.json at .* \(known: default, "):
        PolicyConfig(source=str(tmp_path)).config()
    if kind == "foo":
        PolicyConfig(source=str(tmp_path), rope=RoPE(type="yarn", factor=2.0)).config()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_no_type_of_an_architecture_is_unknown(name):
    refuse_unknown_type(tiny_config(name), "here")


LONGROPE = {"rope_type": "longrope", "short_factor": [1.0, 1.0], "long_factor": [2.0, 4.0]}
PHIMOE = {**LONGROPE, "rope_theta": 1e4, "short_mscale": 1.2, "long_mscale": 1.2}


def test_a_factor_brings_its_own_temperature_of_attention():
    """mlx-lm#1507: Olmo 3 spells out what YaRN's paper gives for its factor; another factor would keep it."""
    scaling = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 8.0, "original_max_position_embeddings": 256}
    spelt, plain = (
        tiny_config("Llama", rope_parameters={**scaling, **more})
        for more in ({"attention_factor": 1.2079441541679836}, {})
    )
    for config in (spelt, plain):
        RoPE(factor=32.0).apply(config)
    found, expected = (transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(one) for one in (spelt, plain))
    assert found.attention_scaling == expected.attention_scaling == pytest.approx(0.1 * math.log(32) + 1)
    own = tiny_config("Llama", rope_parameters={**scaling, "attention_factor": 1.0})
    RoPE(factor=32.0).apply(own)
    assert own.rope_parameters["attention_factor"] == 1.0


WITHOUT = transformers.CohereCompassTextConfig(
    max_position_embeddings=4096,
    num_hidden_layers=2,
    layer_types=["sliding_attention", "full_attention"],
    rope_parameters={"sliding_attention": {"rope_type": "default", "rope_theta": 1e4}, "full_attention": None},
)


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        (transformers.GraniteSWAConfig(), {"theta": 1e7}, "one base for all .*granite_swa, `layer_rope_theta`"),
        (transformers.Gemma4TextConfig(), {"type": "yarn", "factor": 4.0}, "proportional: Gemma 4, .* got yarn"),
        (transformers.Ministral3Config(), {"type": "linear", "factor": 4.0}, "yarn: Gemma 4, Ministral 3.*got linear"),
        (tiny_config("Phimoe", rope_parameters=PHIMOE), {"type": "linear", "factor": 4.0}, "PhiMoE.*got linear"),
        (tiny_config("Phimoe"), {"type": "yarn", "factor": 4.0}, "PhiMoE.*got yarn"),  # without a scaling of its own
        (transformers.RecurrentGemmaConfig(), {"type": "yarn", "factor": 4.0}, "original_length TOKENS"),
        (tiny_config("Llama", rope_parameters={**LONGROPE, "rope_theta": 1e4}), {"factor": 4.0}, "no .* with longrope"),
        (WITHOUT, {"theta": 1e7}, "expected a model with rotary position embeddings, got CohereCompassTextConfig"),
    ],
    ids=[
        "each layer",
        "proportional",
        "llama 4",
        "phimoe",
        "plain phimoe",
        "no length",
        "lists",
        "none in global layers",
    ],
)
def test_positions_that_a_models_code_would_not_follow_are_refused(config, settings, message):
    with pytest.raises(InputError, match=message):
        RoPE(**settings).apply(config)
