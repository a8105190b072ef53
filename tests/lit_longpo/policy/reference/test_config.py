import pytest

from lit_longpo.policy import PolicyConfig, ReferenceConfig


@pytest.mark.parametrize(
    ("checkpointing", "layers", "times"),
    [
        (False, 32, 4),
        (False, 2, 2),
        ("keep_attention", 12, 4),
        ("keep_attention", 2, 1),
        (True, 32, 4),
        (True, 24, 3),
        (True, 6, 1),
        ("offload", 32, 1),
    ],
)
def test_rows_without_gradients_are_as_long_as_what_training_keeps_allows(checkpointing, layers, times):
    assert ReferenceConfig().row_tokens(1000, checkpointing, layers) == 1000 * times
    assert ReferenceConfig(max_tokens=1500).row_tokens(1000, checkpointing, layers) == 1500
    assert ReferenceConfig(policy=PolicyConfig()).row_tokens(1000, checkpointing, layers) == 1000


def test_a_budget_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"`reference.max_tokens` above 0, got 0; type --reference.max_tokens auto"):
        ReferenceConfig(max_tokens=0)
