"""Head arithmetic of sequence parallelism."""

import pytest
from support.tiny_hybrids import hybrid_config
from transformers import GPT2Config, LlamaConfig

from lit_longpo.engine import feasible_degrees
from lit_longpo.engine.ulysses.degrees import head_counts, heads_problem


@pytest.mark.parametrize(
    ("heads", "kv_heads", "world", "expected"),
    [
        (32, 8, None, [1, 2, 4, 8, 16, 32]),  # Mistral-7B, Llama-3-8B
        (32, 8, 16, [1, 2, 4, 8, 16]),
        (28, 4, None, [1, 2, 4, 28]),  # Qwen2.5-7B
        (28, 4, 8, [1, 2, 4]),
        (12, 2, 8, [1, 2, 4]),
        (4, 1, None, [1, 2, 4]),
        (6, 6, None, [1, 2, 3, 6]),
    ],
)
def test_known_models(heads, kv_heads, world, expected):
    assert feasible_degrees(heads, kv_heads, world) == expected


def test_a_configuration_need_not_name_key_value_heads():
    assert head_counts(LlamaConfig(num_attention_heads=8, num_key_value_heads=2)) == (8, 2)
    assert head_counts(GPT2Config(n_head=4)) == (4, 4)


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("Qwen3_5Text", "carry state"),
        ("Mamba2", "carry state"),
        ("Llama4Text", "chunked_attention"),
        ("GPTNeo", "transformers' interface"),
    ],
)
def test_sequences_that_have_to_be_whole_are_shared_by_no_ranks(name, cause):
    config = hybrid_config(name)
    assert heads_problem(config, 1) is None
    problem = heads_problem(config, 2)
    assert "expected `trainer.strategy.init_args.sequence_parallel` 1 for" in problem
    assert cause in problem
