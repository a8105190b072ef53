import copy

import pytest
from support.tiny_models import tiny_config
from transformers import (
    AutoConfig,
    CohereCompassTextConfig,
    Gemma3TextConfig,
    GPT2Config,
    GptOssConfig,
    LlamaConfig,
    PretrainedConfig,
    Qwen2Config,
)

from lit_longpo.errors import InputError
from lit_longpo.policy import RoPE
from lit_longpo.policy.window import check_window, readable_positions, trained_length, window_problem

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0}
LONGROPE = {"rope_type": "longrope", "short_factor": [1.0, 1.0], "long_factor": [2.0, 4.0]}
GEMMA3 = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
}


@pytest.mark.parametrize(
    ("config", "window"),
    [  # as the models' cards say; `rope_scaling` is what their files hold
        (Qwen2Config(max_position_embeddings=32768), 32768),
        (
            Qwen2Config(
                max_position_embeddings=32768,
                rope_scaling={"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
            ),
            131072,
        ),
        (
            Qwen2Config(  # as Qwen3's
                max_position_embeddings=40960,
                rope_scaling={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
            ),
            131072,
        ),
        (LlamaConfig(max_position_embeddings=4096, rope_scaling={"type": "linear", "factor": 4.0}), 16384),
        (LlamaConfig(max_position_embeddings=4096, rope_scaling={"type": "dynamic", "factor": 2.0}), 8192),
        (
            LlamaConfig(
                max_position_embeddings=131072, rope_scaling={**LLAMA3, "original_max_position_embeddings": 8192}
            ),
            131072,
        ),
        (
            LlamaConfig(
                head_dim=4,
                max_position_embeddings=4096,
                rope_scaling={**LONGROPE, "factor": 32.0, "original_max_position_embeddings": 4096},
            ),
            131072,
        ),
        (  # as Phi-3's
            LlamaConfig(
                head_dim=4,
                max_position_embeddings=131072,
                rope_scaling={**LONGROPE, "original_max_position_embeddings": 4096},
            ),
            131072,
        ),
        (GptOssConfig(), 131072),
        (Gemma3TextConfig(rope_parameters=GEMMA3), 131072),
        (PretrainedConfig(), None),
    ],
)
def test_the_window_holds_the_factor_of_a_scaling(config, window):
    assert readable_positions(config) == window


def test_what_the_refusal_says_can_be_typed():
    with pytest.raises(InputError) as refused:
        check_window(1300, tiny_config("Llama"))  # made for 512
    read = (RoPE(max_length=1300), "--policy.rope.max_length 1300 ")
    stretched = (RoPE(type="yarn", factor=3.0), "--policy.rope.type yarn --policy.rope.factor 3 ")
    for rope, typed in (read, stretched):
        config = tiny_config("Llama")
        rope.apply(config)
        check_window(1300, config)
        assert typed in str(refused.value)
    dynamic = LlamaConfig(max_position_embeddings=512, rope_scaling={"type": "dynamic", "factor": 2.0})
    with pytest.raises(InputError, match=r"contexts, or --policy\.rope\.type yarn .* to stretch the model$"):
        check_window(1300, dynamic)  # whose `max_length` is another model's
    check_window(1300, GPT2Config(n_positions=512))  # which has no `policy.rope` to say it with


@pytest.mark.parametrize(
    ("rope", "window"),
    [
        (RoPE(type="yarn", factor=4.0), 2048),
        (RoPE(type="linear", factor=4.0), 2048),
        (RoPE(type="linear", factor=4.0, max_length=2048), 2048),
        (RoPE(type="dynamic", factor=4.0), 2048),
        (RoPE(theta=1e6, max_length=1024), 1024),
    ],
)
def test_changed_positions_change_the_window_once(rope, window, tmp_path):
    config = tiny_config("Llama", max_position_embeddings=512)
    rope.apply(config)
    assert readable_positions(config) == window
    config.save_pretrained(tmp_path)
    assert readable_positions(AutoConfig.from_pretrained(tmp_path)) == window


LLAMA3 = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"rope_type": "yarn", "rope_theta": 5e5, "factor": 8.0}


@pytest.mark.parametrize("own", [LLAMA3, YARN], ids=["llama3", "yarn"])
@pytest.mark.parametrize(
    ("rope", "window"),
    [
        (RoPE(type="linear", factor=4.0), 256),
        (RoPE(type="linear", factor=16.0), 1024),
        (RoPE(type="yarn", factor=4.0), 256),
        (RoPE(type="default"), 64),
        (RoPE(type="dynamic", factor=4.0), 256),
        (RoPE(theta=1e6), 512),
    ],
)
def test_another_scaling_does_not_keep_the_length_of_the_models_own(own, rope, window, tmp_path):
    """unsloth#7028: in a linear scaling's place of Llama 3.1's own, the 131,072 positions of that were multiplied."""
    parameters = {**own, "original_max_position_embeddings": 64}
    config = tiny_config("Llama", max_position_embeddings=512, rope_parameters=parameters)
    rope.apply(config)
    config.save_pretrained(tmp_path)
    for stored in (config, AutoConfig.from_pretrained(tmp_path)):
        assert readable_positions(stored) == window
    check_window(window, config)
    with pytest.raises(InputError, match=f"at most {window:,} positions"):
        check_window(window + 1, config)


def test_a_linear_scaling_of_its_own_is_not_exchanged_for_one_of_its_scaled_length():
    """unsloth#7028 for Gemma 3: YaRN from its 131,072 positions, as was advised, undid the division by 8."""
    config = Gemma3TextConfig(rope_parameters=GEMMA3)
    with pytest.raises(InputError, match="at most 131,072") as refused:
        check_window(200000, config)
    assert "--policy.rope.type" not in str(refused.value)
    with pytest.raises(InputError, match=r"expected .*type --policy\.rope\.original_length T"):
        RoPE(type="yarn", factor=2.0).apply(copy.deepcopy(config))
    with pytest.raises(InputError, match=r"expected `policy\.rope\.max_length`"):
        RoPE(type="default").apply(copy.deepcopy(config))
    stretched = copy.deepcopy(config)
    RoPE(type="yarn", factor=8.0, original_length=32768).apply(stretched)
    assert readable_positions(stretched) == 262144


@pytest.mark.parametrize(
    ("rope", "window"),
    [
        (RoPE(factor=2.0), 32768),  # positions of 131,072 / 8 are all that its angles have seen
        (RoPE(type="linear", factor=16.0), 262144),
        (RoPE(max_length=200000), 200000),
        (RoPE(factor=16.0, max_length=200000), 200000),
        (RoPE(type="dynamic", factor=4.0, original_length=32768), 131072),
        (RoPE(theta=1e7), 131072),
    ],
)
def test_a_scaled_length_that_is_stated_follows_the_factor_and_is_not_multiplied(rope, window, tmp_path):
    config = Gemma3TextConfig(rope_parameters=copy.deepcopy(GEMMA3))
    rope.apply(config)
    config.save_pretrained(tmp_path)
    for stored in (config, AutoConfig.from_pretrained(tmp_path)):
        assert readable_positions(stored) == window


def test_a_linear_scaling_of_global_layers_is_told_from_one_that_is_stated():
    config = Gemma3TextConfig(max_position_embeddings=32768)  # as Gemma 3 1B: unscaled
    RoPE(type="linear", factor=4.0).apply(config)
    assert readable_positions(config) == 131072


def test_a_flat_linear_scaling_is_exchanged_from_the_length_that_is_typed():
    config = LlamaConfig(max_position_embeddings=4096, rope_scaling={"type": "linear", "factor": 4.0})
    with pytest.raises(InputError, match=r"length before it \(Vicuna-16k: 4,096\) or with it"):
        RoPE(type="yarn", factor=4.0).apply(copy.deepcopy(config))  # DeepSeek-Coder's file states the length with it
    RoPE(type="yarn", factor=4.0, original_length=4096).apply(config)
    assert readable_positions(config) == 16384


def test_a_length_that_takes_dual_chunk_attention_is_not_read_by_plain_attention():
    """Qwen2.5-1M and Qwen3-2507: transformers keeps the setting in the configuration and computes without it."""
    chunks = {"chunk_size": 262144, "local_size": 8192, "original_max_position_embeddings": 262144}
    config = Qwen2Config(max_position_embeddings=1010000, dual_chunk_attention_config=chunks)
    assert readable_positions(config) == trained_length(config) == 262144
    with pytest.raises(InputError, match=r"at most 262,144 positions.* --policy\.rope\.factor 2 "):
        check_window(500000, config)
    for rope in (RoPE(type="yarn", factor=2.0), RoPE(max_length=500000)):
        stretched = copy.deepcopy(config)
        rope.apply(stretched)
        check_window(500000, stretched)
        assert not stretched.dual_chunk_attention_config
    for kind, factor, window in (("yarn", 2.0, 524288), ("linear", 2.0, 524288), ("default", None, 262144)):
        changed = copy.deepcopy(config)
        RoPE(type=kind, factor=factor).apply(changed)
        assert readable_positions(changed) == window


def test_what_is_typed_for_positions_beyond_the_window_is_enough():
    config = LlamaConfig(max_position_embeddings=256)
    said = window_problem(373, config)
    assert said is not None
    assert "--data.max_length 256" in said
    kind, factor = (said.split(f"--policy.rope.{name} ")[1].split()[0] for name in ("type", "factor"))
    RoPE(type=kind, factor=float(factor)).apply(config)
    assert window_problem(373, config) is None
    assert "rope" not in window_problem(373, GPT2Config(n_positions=256))


def test_positions_that_were_synthesised_are_not_cut_with_the_context():
    """Cutting contexts, which was advised, leaves LOGO's `target_length` where it is."""
    said = window_problem(373, LlamaConfig(max_position_embeddings=256), synthesised=True)
    assert "type --data.positions.target_length 256 " in said
    assert "max_length" not in said


def test_a_model_whose_global_layers_have_no_positions_has_a_window():
    rope = {"sliding_attention": {"rope_type": "default", "rope_theta": 1e4}, "full_attention": None}
    layers = {"num_hidden_layers": 2, "layer_types": list(rope)}
    config = CohereCompassTextConfig(max_position_embeddings=4096, rope_parameters=rope, **layers)
    assert readable_positions(config) == 4096
    assert "--data.max_length 4096" in str(window_problem(5000, config))
