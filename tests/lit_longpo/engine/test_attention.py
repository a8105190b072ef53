import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.groups import random_groups

from lit_longpo.engine.attention import UnsupportedModelError, prefix_shared_attention
from lit_longpo.engine.packing import pack


def dense_attention(query, key, value, visible, scaling):
    """Softmax over the visible keys only, written out for one row with repeated key/value heads."""
    repeat = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeat, 1), value.repeat_interleave(repeat, 1)
    scores = (query @ key.transpose(-1, -2)) * scaling
    return (scores.masked_fill(~visible, -torch.inf).softmax(-1) @ value).transpose(1, 2)


def visible_keys(sizes, window):
    """The full [T, T] visibility, token by token; it exists in tests only."""
    coordinates = []  # (group, response or None, index within its own sequence)
    for group, (length, responses) in enumerate(sizes):
        coordinates += [(group, None, n) for n in range(length)]
        for response, size in enumerate(responses):
            coordinates += [(group, response, length + n) for n in range(size)]
    total = len(coordinates)
    visible = torch.zeros(total, total, dtype=torch.bool)
    for q, (group, branch, index) in enumerate(coordinates):
        for k, (other, other_branch, other_index) in enumerate(coordinates):
            same = group == other and other_branch in (None, branch)
            near = window is None or index - other_index < window
            visible[q, k] = same and other_index <= index and near
    return visible


sizes = st.lists(
    st.tuples(st.integers(1, 9), st.lists(st.integers(1, 5), min_size=1, max_size=3)), min_size=1, max_size=3
)


@given(sizes=sizes, window=st.none() | st.integers(1, 6), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_equals_dense_attention_under_the_full_mask(sizes, window, seed):
    generator = torch.Generator().manual_seed(seed)
    table = pack(random_groups(sizes)).table
    shape = (1, 4, table.num_tokens, 8)
    query = torch.randn(shape, generator=generator, dtype=torch.float64)
    key, value = (torch.randn((1, 2, *shape[2:]), generator=generator, dtype=torch.float64) for _ in range(2))
    out, weights = prefix_shared_attention(
        torch.nn.Identity(), query, key, value, None, scaling=0.3, sliding_window=window, segment_table=table
    )
    assert weights is None
    torch.testing.assert_close(out, dense_attention(query, key, value, visible_keys(sizes, window), 0.3))


def test_no_mask_as_large_as_the_row_is_ever_built(monkeypatch):
    from lit_longpo.engine import sdpa

    built = []
    original = sdpa._causal_mask
    monkeypatch.setattr(sdpa, "_causal_mask", lambda q, k, *rest: built.append((q, k)) or original(q, k, *rest))
    table = pack(random_groups([(2000, [8, 8, 8])])).table
    tensor = torch.randn(1, 1, table.num_tokens, 4)
    for window in (None, 16):
        prefix_shared_attention(
            torch.nn.Identity(), tensor, tensor, tensor, None, sliding_window=window, segment_table=table
        )
    assert built
    assert max(q * k for q, k in built) < 2000 * 300


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segment_table": None}, "without a segment table"),
        ({"attention_mask": torch.ones(1)}, "attention mask"),
        ({"dropout": 0.1}, "attention_dropout: 0"),
        ({"softcap": 30.0}, "soft-capping"),
        ({"s_aux": torch.ones(1)}, "sinks"),
    ],
)
def test_what_a_packed_row_cannot_honour_is_refused(change, message):
    table = pack(random_groups([(3, [2])])).table
    tensor = torch.randn(1, 2, table.num_tokens, 4)
    arguments = {"attention_mask": None, "segment_table": table, **change}
    with pytest.raises(UnsupportedModelError, match=message):
        prefix_shared_attention(torch.nn.Identity(), tensor, tensor, tensor, **arguments)


def test_a_row_of_another_length_is_refused():
    table = pack(random_groups([(3, [2])])).table
    tensor = torch.randn(1, 2, 4, 4)
    with pytest.raises(UnsupportedModelError, match="one row of 5 tokens"):
        prefix_shared_attention(torch.nn.Identity(), tensor, tensor, tensor, None, segment_table=table)
