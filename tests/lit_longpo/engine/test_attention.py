import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.groups import random_groups

from lit_longpo.engine.attention import UnsupportedModelError, prefix_shared_attention
from lit_longpo.engine.backends import sdpa, softcap
from lit_longpo.engine.packing import pack


def dense_attention(query, key, value, visible, scaling, softcap=None, s_aux=None):
    """Softmax over the visible keys only, written out for one row with repeated key/value heads."""
    repeat = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeat, 1), value.repeat_interleave(repeat, 1)
    scores = (query @ key.transpose(-1, -2)) * scaling
    if softcap is not None:
        scores = softcap * (scores / softcap).tanh()
    weights = scores.masked_fill(~visible, -torch.inf).exp()
    sink = 0.0 if s_aux is None else s_aux.exp().view(1, -1, 1, 1)
    return (weights / (weights.sum(-1, keepdim=True) + sink) @ value).transpose(1, 2)


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


def drawn(total, generator, value_size=8):
    """Query, key and value of a row, four query heads over two. Shape: (1, heads, total, 8) each."""
    return [
        torch.randn(1, heads, total, size, generator=generator, dtype=torch.float64).requires_grad_()
        for heads, size in ((4, 8), (2, 8), (2, value_size))
    ]


EXTRAS = {
    "plain": lambda generator: {},
    "softcap": lambda generator: {"softcap": 0.7},
    "sinks": lambda generator: {"s_aux": torch.randn(4, generator=generator, dtype=torch.float64).requires_grad_()},
}


@pytest.mark.parametrize("extra", EXTRAS)
@given(
    sizes=sizes,
    window=st.none() | st.integers(1, 6),
    seed=st.integers(0, 99),
    block=st.sampled_from([1, 2, 300]),
    value_size=st.sampled_from([8, 5]),
)
@settings(max_examples=25, deadline=None)
def test_equals_dense_attention_under_the_full_mask(extra, sizes, window, seed, block, value_size):
    """Values and gradients, those of sinks too; small blocks make several of a segment."""
    generator = torch.Generator().manual_seed(seed)
    table = pack(random_groups(sizes)).table
    inputs = drawn(table.num_tokens, generator, value_size)
    options = EXTRAS[extra](generator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sdpa, "MIN_WINDOW_BLOCK", block)
        patch.setattr(softcap, "MIN_WINDOW_BLOCK", block)
        patch.setattr(softcap, "_BLOCK_BYTES", 4 * 4 * table.num_tokens * block)
        out, weights = prefix_shared_attention(
            torch.nn.Identity(), *inputs, None, scaling=0.3, sliding_window=window, segment_table=table, **options
        )
        leaves = inputs + [value for value in options.values() if isinstance(value, torch.Tensor)]
        found = torch.autograd.grad(out.sin().sum(), leaves)
    assert weights is None
    expected = dense_attention(*inputs, visible_keys(sizes, window), 0.3, **options)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(found, torch.autograd.grad(expected.sin().sum(), leaves))


def test_no_mask_as_large_as_the_row_is_ever_built(monkeypatch):
    built = []
    original = sdpa.causal_mask
    for module in (sdpa, softcap):
        monkeypatch.setattr(module, "causal_mask", lambda q, k, *rest: built.append((q, k)) or original(q, k, *rest))
    monkeypatch.setattr(softcap, "_BLOCK_BYTES", 4 * 2000 * 100)
    table = pack(random_groups([(2000, [8, 8, 8])])).table
    tensor = torch.randn(1, 1, table.num_tokens, 4)
    for options in ({}, {"softcap": 2.0}, {"s_aux": torch.zeros(1)}):
        for window in (None, 16):
            prefix_shared_attention(
                torch.nn.Identity(), *[tensor] * 3, None, sliding_window=window, segment_table=table, **options
            )
        assert built
        assert max(q * k for q, k in built) < 2000 * 300
        built.clear()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segment_table": None}, "without a segment table"),
        ({"attention_mask": torch.ones(1)}, "attention mask"),
        ({"dropout": 0.1}, "attention_dropout: 0"),
        ({"position_bias": torch.ones(1)}, "a position bias"),
        ({"softcap": 30.0, "s_aux": torch.ones(2)}, "one at a time"),
    ],
)
def test_what_a_packed_row_cannot_honour_is_refused(change, message):
    table = pack(random_groups([(3, [2])])).table
    tensor = torch.randn(1, 2, table.num_tokens, 4)
    arguments = {"attention_mask": None, "segment_table": table, **change}
    with pytest.raises(UnsupportedModelError, match=message):
        prefix_shared_attention(torch.nn.Identity(), tensor, tensor, tensor, **arguments)


@pytest.mark.parametrize("extra", EXTRAS)
def test_what_comes_out_can_be_viewed_as_transformers_own(extra):
    """JetMoe and Afmoe take a view where others reshape."""
    generator = torch.Generator().manual_seed(0)
    table = pack(random_groups([(3, [2, 4]), (5, [1])])).table
    query, key, value = drawn(table.num_tokens, generator)
    output, _ = prefix_shared_attention(
        torch.nn.Identity(), query, key, value, None, segment_table=table, **EXTRAS[extra](generator)
    )
    assert output.view(1, table.num_tokens, -1).shape[2] == 32


def test_a_row_of_another_length_is_refused():
    table = pack(random_groups([(3, [2])])).table
    tensor = torch.randn(1, 2, 4, 4)
    with pytest.raises(UnsupportedModelError, match="one row of 5 tokens"):
        prefix_shared_attention(torch.nn.Identity(), tensor, tensor, tensor, None, segment_table=table)
