"""What config.json says to readers that know transformers 4 alone."""

import json
import logging

import pytest
from support.tiny_models import tiny_model
from support.word_tokenizer import word_tokenizer
from transformers import (
    AutoConfig,
    Gemma3Config,
    Gemma3TextConfig,
    Gemma4TextConfig,
    GPTNeoXConfig,
    LlamaConfig,
    ModernBertDecoderConfig,
    Olmo3Config,
    Phi3Config,
    Qwen3MoeConfig,
    StableLmConfig,
)

from lit_longpo.export.earlier_names import with_earlier_names, write_earlier_names
from lit_longpo.export.folder import save_policy
from lit_longpo.policy import PromptFormat, PromptTemplate

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}
LINEAR = {"rope_type": "linear", "factor": 8.0}
LISTS = {"short_factor": [1.0] * 48, "long_factor": [2.0] * 48}
SLIDING, FULL = "sliding_attention", "full_attention"


def turning(**fields):
    return {"rope_type": "default", "rope_theta": 5e5, **fields}


def by_layers(sliding, full):
    return {SLIDING: turning(rope_theta=sliding), FULL: {**LINEAR, "rope_theta": full}}


PLAIN_LLAMA = LlamaConfig(rope_parameters=turning(), dtype="bfloat16")
CASES = {
    "a base": (PLAIN_LLAMA, {"rope_theta": 5e5, "torch_dtype": "bfloat16"}),
    "a longer window": (
        LlamaConfig(rope_parameters=turning(**YARN), max_position_embeddings=8192),
        {"rope_theta": 5e5, "rope_scaling": YARN},
    ),
    "a part of a head": (
        StableLmConfig(rope_parameters=turning(partial_rotary_factor=0.5)),
        {"rope_theta": 5e5, "partial_rotary_factor": 0.5},
    ),
    "names of its own": (
        GPTNeoXConfig(rope_parameters=turning(partial_rotary_factor=0.5)),
        {"rotary_emb_base": 5e5, "rotary_pct": 0.5},
    ),
    "two bases": (
        Gemma3TextConfig(rope_parameters=by_layers(2e4, 2e6)),
        {"rope_theta": 2e6, "rope_scaling": LINEAR, "rope_local_base_freq": 2e4},
    ),
    "two bases with names of their own": (
        ModernBertDecoderConfig(rope_parameters={SLIDING: turning(rope_theta=2e4), FULL: turning()}),
        {"global_rope_theta": 5e5, "local_rope_theta": 2e4},
    ),
    "windows without scaling": (
        Olmo3Config(rope_parameters={SLIDING: turning(), FULL: turning(**YARN)}, max_position_embeddings=8192),
        {"rope_theta": 5e5, "rope_scaling": YARN},
    ),
    "three fields": (
        Phi3Config(rope_parameters=turning(rope_type="longrope", **LISTS), original_max_position_embeddings=4096),
        {"rope_theta": 5e5, "rope_scaling": {"type": "longrope", **LISTS}},
    ),
    "experts": (Qwen3MoeConfig(num_experts=4, rope_parameters=turning()), {"rope_theta": 5e5, "num_experts": 4}),
}


def saved(config, folder):
    config.save_pretrained(folder)
    write_earlier_names(folder, type(config))
    return json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize(("config", "expected"), CASES.values(), ids=CASES.keys())
def test_rotary_positions_stand_there_in_both_words(config, expected, tmp_path):
    """transformers 4 and vLLM on it took a base of 10,000 (vllm#44158); 4.55 gives the same logits."""
    before = config.to_dict()["rope_parameters"]
    told = saved(config, tmp_path)
    assert expected.items() <= told.items()
    assert AutoConfig.from_pretrained(tmp_path).to_dict()["rope_parameters"].items() >= before.items()
    del told["rope_parameters"]
    (tmp_path / "config.json").write_text(json.dumps(told))
    earlier = AutoConfig.from_pretrained(tmp_path).rope_parameters
    assert {name: earlier[name] for name in before} == before


def test_configurations_inside_one_another(tmp_path):
    told = saved(Gemma3Config(text_config=Gemma3TextConfig(rope_parameters=by_layers(2e4, 2e6)).to_dict()), tmp_path)
    assert told["text_config"]["rope_theta"] == 2e6
    assert told["text_config"]["rope_local_base_freq"] == 2e4


def test_models_that_transformers_4_does_not_know_have_no_earlier_names():
    config = json.loads(Gemma4TextConfig().to_json_string())
    assert with_earlier_names(config).keys() - config.keys() <= {"torch_dtype"}


def test_what_would_be_read_otherwise_is_said_and_left_out(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("lit_longpo.export.earlier_names._BASE", "base")
    with caplog.at_level(logging.WARNING):
        told = saved(PLAIN_LLAMA, tmp_path)
    assert "rope_theta" not in told
    assert "read the folder with transformers 5" in caplog.text


def test_a_saved_policy_says_both(tmp_path):
    model = tiny_model("Llama")
    save_policy(model, PromptFormat(word_tokenizer(), PromptTemplate()), tmp_path, "card")
    told = json.loads((tmp_path / "config.json").read_text())
    assert told["rope_theta"] == told["rope_parameters"]["rope_theta"]
    assert AutoConfig.from_pretrained(tmp_path).rope_parameters == model.config.rope_parameters
