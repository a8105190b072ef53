"""Contexts from passages: budgets, positions, nothing supporting lost."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_modules.qa_sets.contexts import BudgetError, build_context, join_passages, passage_text
from data_modules.records import Passage


def count_words(text: str) -> int:
    return len(text.split())


words = st.lists(st.sampled_from(["alpha", "beta", "gamma", "delta"]), min_size=1, max_size=8).map(" ".join)
supporting = st.lists(st.builds(Passage, words, words, st.just(True)), min_size=1, max_size=3)
distractors = st.lists(st.builds(Passage, words | st.just(""), words), max_size=8)


@given(supporting, distractors, st.integers(0, 60), st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_budget_and_spans(facts: list[Passage], others: list[Passage], spare: int, seed: int) -> None:
    budget = count_words(join_passages(facts)[0]) + spare
    context = build_context(facts, others, budget, count_words, random.Random(seed))
    assert count_words(context.text) <= budget
    assert sorted(context.text[start:end] for start, end in context.supporting) == sorted(map(passage_text, facts))
    assert sorted(context.text.split("\n\n")) == sorted(map(passage_text, [*facts, *context.distractors]))
    again = build_context(facts, others, budget, count_words, random.Random(seed))
    assert again == context


def test_fills_the_budget_past_a_passage_that_is_too_long() -> None:
    others = [Passage("", "w " * 50), *(Passage("", f"d{i} x") for i in range(9))]
    context = build_context([Passage("", "fact", True)], others, 12, count_words, random.Random(0))
    assert count_words(context.text) == 11
    assert len(context.distractors) == 5


@pytest.mark.parametrize(("too_long", "taken"), [(15, 1), (16, 0)])
def test_a_budget_is_full_behind_sixteen_passages_in_a_row_that_are_too_long(too_long: int, taken: int) -> None:
    others = [*(Passage("", f"{'w ' * 50}{i}") for i in range(too_long)), Passage("", "short")]
    context = build_context([Passage("", "fact", True)], others, 12, count_words, random.Random(0))
    assert len(context.distractors) == taken


def test_at_most_so_many_distractors() -> None:
    others = [Passage("", f"d{i}") for i in range(9)]
    context = build_context([Passage("", "fact", True)], others, 100, count_words, random.Random(0), 2)
    assert context.distractors == tuple(others[:2])


def test_seed_moves_the_facts() -> None:
    others = [Passage("", f"d{i}") for i in range(9)]
    starts = {
        build_context([Passage("", "fact", True)], others, 100, count_words, random.Random(seed)).supporting
        for seed in range(20)
    }
    assert len(starts) > 3


def test_facts_over_budget_are_refused() -> None:
    with pytest.raises(BudgetError, match="at most 2 tokens, got 3"):
        build_context([Passage("", "a b c", True)], [], 2, count_words, random.Random(0))


def test_no_blank_line_inside_a_passage() -> None:
    assert passage_text(Passage("A\n\ntitle", "one\n\n \ntwo\n")) == "A title\none\ntwo"
