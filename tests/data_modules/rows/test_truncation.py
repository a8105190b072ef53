"""Cutting contexts: lengths, what is kept, what is counted."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_modules.records import PreferencePair
from data_modules.rows.truncation import LengthPolicy, cut_middle, drop_passages, spans_hit, supporting_spans


def count_words(text: str) -> int:
    return len(text.split())


@given(st.lists(st.integers(), max_size=30), st.integers(0, 40))
def test_middle_keeps_both_ends(ids: list[int], max_tokens: int) -> None:
    kept = cut_middle(ids, max_tokens)
    assert len(kept) == min(len(ids), max_tokens)
    head = (len(kept) + 1) // 2
    assert list(kept[:head]) == ids[:head]
    assert list(kept[head:]) == ids[len(ids) - (len(kept) - head) :]


@given(st.integers(1, 30), st.integers(0, 30), st.data())
def test_spans_hit_counts_what_the_middle_takes(length: int, max_tokens: int, data: st.DataObject) -> None:
    """One word is one token, so the count is exact: compare with marking every word."""
    max_tokens = min(max_tokens, length - 1)
    first = data.draw(st.integers(0, length - 1))
    last = data.draw(st.integers(first, length - 1))
    words = [f"w{number}" for number in range(length)]
    start = len(" ".join(words[:first])) + (first > 0)
    spans = [(start, start + len(" ".join(words[first : last + 1])))]
    kept = set(cut_middle(range(length), max_tokens))
    expected = int(not kept.issuperset(range(first, last + 1)))
    assert spans_hit(" ".join(words), spans, length, max_tokens, count_words) == expected


passages = st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=1, max_size=8)


@given(passages, st.integers(1, 40), st.integers(0, 3))
@settings(max_examples=150)
def test_dropping_keeps_every_supporting_passage(layout: list[tuple[int, bool]], max_tokens: int, seed: int) -> None:
    parts = [" ".join([f"p{number}"] * size) for number, (size, _) in enumerate(layout)]
    text, spans, position = "\n\n".join(parts), [], 0
    for part, (_, is_supporting) in zip(parts, layout, strict=True):
        if is_supporting:
            spans.append((position, position + len(part)))
        position += len(part) + 2
    facts = [part for part, (_, is_supporting) in zip(parts, layout, strict=True) if is_supporting]
    shorter = drop_passages(text, spans, max_tokens, count_words, str(seed))
    if shorter is None:
        assert sum(map(count_words, facts)) > max_tokens
        return
    kept = shorter.split("\n\n") if shorter else []
    assert count_words(shorter) <= max_tokens
    assert set(facts) <= set(kept)
    assert kept == [part for part in parts if part in kept]
    lost = [part for part in parts if part not in kept]
    if count_words(text) > max_tokens:
        assert any(count_words(shorter) + count_words(part) > max_tokens for part in lost)
    else:
        assert not lost


def test_window_must_hold_something() -> None:
    with pytest.raises(ValueError, match=r"`data.init_args.max_length` of at least 2 .*, got 1; set it"):
        LengthPolicy(max_length=1)


def test_supporting_passages_are_found_in_the_short_context() -> None:
    pair = PreferencePair("a", "q", "A fact.", "Noise. A fact. Noise.", "yes", ("no",), supporting=((7, 14),))
    assert supporting_spans(pair, pair.long_context) == ((7, 14),)
    assert supporting_spans(pair, pair.short_context) == ((0, 7),)
