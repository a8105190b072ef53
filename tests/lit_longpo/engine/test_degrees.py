"""Head arithmetic of sequence parallelism."""

import pytest

from lit_longpo.engine import feasible_degrees


@pytest.mark.parametrize(
    ("heads", "kv_heads", "world", "expected"),
    [
        (32, 8, None, [1, 2, 4, 8, 16, 32]),  # Mistral-7B, Llama-3-8B
        (28, 4, None, [1, 2, 4, 28]),  # Qwen2.5-7B
        (28, 4, 8, [1, 2, 4]),
        (12, 2, 8, [1, 2, 4]),
        (4, 1, None, [1, 2, 4]),
        (6, 6, None, [1, 2, 3, 6]),
    ],
)
def test_known_models(heads, kv_heads, world, expected):
    assert feasible_degrees(heads, kv_heads, world) == expected
