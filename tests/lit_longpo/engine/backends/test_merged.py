"""Attention over chains of pieces, by every backend, against one dense mask in double precision."""

import pytest
import torch
from support.cpu_flash import plain_varlen
from support.groups import random_groups

from lit_longpo.batch import Group, Response
from lit_longpo.engine import pack
from lit_longpo.engine.backends import merged
from lit_longpo.engine.backends.flash import VarlenKernel, flash_attention
from lit_longpo.engine.backends.sdpa import sdpa_attention
from lit_longpo.engine.backends.softcap import softcapped_attention

PROMPTS = {"a": (*range(9), 20, 21), "b": (*range(9), *range(30, 35)), "c": (*range(9), *range(30, 33), 7), "d": (50,)}


def row():
    """a, b and c have 9 tokens in common, b and c 3 more; each has two answers."""
    answers = tuple(Response("rejected", (1,) * size, (True,) * size, size) for size in (2, 3))
    return pack([Group(name, "long", prompt, answers) for name, prompt in PROMPTS.items()], shared_from=3)


def dense(query, key, value, table, window=None, softcap=None, sinks=None):
    """Every query over the whole row under a mask that the table's segments spell out, token by token."""
    starts = [sum(table.pieces[:n]) for n in range(len(table.pieces))]
    visible, end = torch.zeros(table.num_tokens, table.num_tokens, dtype=torch.bool), 0
    for segment in table.segments:
        keys = [starts[p] + n for p in segment.key_pieces for n in range(table.pieces[p])]
        for place in range(len(keys) - segment.query_length, len(keys)):
            seen = keys[: place + 1] if window is None else keys[max(0, place + 1 - window) : place + 1]
            visible[end, seen] = True
            end += 1
    key, value = (part.repeat_interleave(query.shape[1] // key.shape[1], 1) for part in (key, value))
    scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
    scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~visible, -torch.inf)
    if sinks is not None:
        scores = torch.cat([scores, sinks.view(1, -1, 1, 1).expand(1, -1, scores.shape[2], 1)], dim=3)
        return (scores.softmax(-1)[..., :-1] @ value).transpose(1, 2)
    return (scores.softmax(-1) @ value).transpose(1, 2)


def flash(query, key, value, table, scaling, window):
    return flash_attention(query, key, value, table, scaling, window, VarlenKernel("in torch", plain_varlen))


CASES = {
    "parts": (sdpa_attention, {}),
    "a window": (sdpa_attention, {"window": 4}),
    "a window that is never filled": (sdpa_attention, {"window": 99}),
    "sinks": (sdpa_attention, {"sinks": True}),
    "a soft-cap": (softcapped_attention, {"softcap": 1.5}),
    "a soft-cap and a window": (softcapped_attention, {"softcap": 1.5, "window": 5}),
    "one varlen call": (flash, {}),
    "one varlen call with a window": (flash, {"window": 4}),
}


@pytest.mark.parametrize("case", CASES)
def test_chains_are_attended_as_under_one_mask(case):
    attend, options = CASES[case]
    table, generator = row().table, torch.Generator().manual_seed(0)
    assert max(len(segment.key_pieces) for segment in table.segments) == 4
    tensors = [
        torch.randn(1, heads, table.num_tokens, 8, generator=generator, dtype=torch.float64).requires_grad_()
        for heads in (4, 2, 2)
    ]
    options = dict(options)
    if options.pop("sinks", None):
        options["sinks"] = torch.linspace(-1, 2, 4, dtype=torch.float64).requires_grad_()
        tensors.append(options["sinks"])
    ours = attend(*tensors[:3], table, None, options.pop("window", None), **options)
    options |= {} if CASES[case][1].get("window") is None else {"window": CASES[case][1]["window"]}
    theirs = dense(*tensors[:3], table, **options)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    weights = torch.randn(ours.shape, generator=generator, dtype=torch.float64)
    pairs = [torch.autograd.grad((out * weights).sum(), tensors) for out in (ours, theirs)]
    for one, other in zip(*pairs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def test_parts_are_for_chains_alone_and_copy_nothing():
    shared, apart = row(), pack([Group("a", "long", (1, 2, 3), (Response("chosen", (4,), (True,)),))])

    def takes(table, window=None, *, size=8, tokens=lambda table: table.num_tokens):
        query, key, value = (torch.zeros(1, 2, tokens(table), width) for width in (8, 8, size))
        return merged.merges(query, key, value, table, window)

    assert takes(shared.table)
    assert takes(shared.table, 17)
    assert not takes(shared.table, 16)
    assert not takes(apart.table)
    assert not takes(shared.table, size=6)
    assert not takes(shared.table, tokens=lambda table: 5)  # some segments are attended apart
    parts = merged.parts_of(shared.table)
    assert sum(part.keys.stop - part.keys.start for part in parts if part.causal) == shared.num_tokens
    # The 9 common tokens once, b's and c's 3, and each prompt's own end: no more keys than the row has.
    assert sum(part.keys.stop - part.keys.start for part in parts if not part.causal) == 9 + 3 + 2 + 2 + 1 + 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_answers_of_a_long_prompt_are_attended_as_under_one_mask_and_copy_no_keys(dtype, monkeypatch):
    """Beside a short one, whose keys lie in the row, too."""
    monkeypatch.setattr(merged, "LONGEST_COPY", 40)
    monkeypatch.setattr("lit_longpo.engine.backends.sdpa._gather", lambda *_: pytest.fail("gathered"))
    table, generator = pack(random_groups([(50, [7, 3, 20]), (6, [4, 2])])).table, torch.Generator().manual_seed(0)
    made = [torch.randn(1, table.num_tokens, heads, 8, generator=generator, dtype=dtype) for heads in (4, 2, 2)]
    tensors = [tensor.transpose(1, 2).requires_grad_() for tensor in made]
    ours, theirs = sdpa_attention(*tensors, table, None, None), dense(*tensors, table)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    weights = torch.randn(ours.shape, generator=generator, dtype=dtype)
    pairs = [torch.autograd.grad((out * weights).sum(), tensors) for out in (ours, theirs)]
    for one, other in zip(*pairs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_short_prompts_and_half_precision_are_gathered():
    query, table = torch.zeros(1, 2, 650, 8), pack(random_groups([(600, [20, 30])])).table
    short = pack(random_groups([(500, [75, 75])])).table
    assert merged.merges(query, query, query, table, None)
    assert not merged.merges(query, query, query, short, None)
    assert not merged.merges(query.bfloat16(), query.bfloat16(), query.bfloat16(), table, None)
    with torch.autocast("cpu", torch.bfloat16):
        assert not merged.merges(query, query, query, table, None)


def test_half_precision_is_rounded_once():
    table, generator = row().table, torch.Generator().manual_seed(0)
    exact = [torch.randn(1, 2, table.num_tokens, 8, generator=generator).bfloat16().float() for _ in range(3)]
    half = merged.merged_attention(*(tensor.bfloat16() for tensor in exact), table, None).float()
    whole = merged.merged_attention(*exact, table, None)
    assert float((half - whole).abs().max() / whole.abs().max()) < 2**-7
