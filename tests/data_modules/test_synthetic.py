"""Pairs and needles from the synthetic world."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_modules.pretraining import WorldTextDataModule
from data_modules.synthetic import SyntheticDataModule, WorldHaystack
from data_modules.worlds.world import num_words_of


def test_synthetic_pairs_hold_the_facts_in_both_contexts():
    data = SyntheticDataModule(num_train=20, short_words=40, long_words=(200, 300), hops=2)
    for pair in data.pairs("train"):
        facts = [pair.long_context[start:end] for start, end in pair.supporting]
        assert len(facts) == 2
        assert all(fact in pair.short_context for fact in facts)
        assert 25 <= num_words_of(pair.short_context) <= 40
        assert 200 <= num_words_of(pair.long_context) <= 310
        assert pair.rejected[0] != pair.chosen
    assert [pair.id for pair in data.pairs("train")] == [f"train-{n}" for n in range(20)]
    assert data.pairs("train") == data.pairs("train")


@pytest.mark.parametrize("size", [10**20, -1])
def test_numbers_of_examples_that_nobody_could_wait_for(size):
    for kind in (SyntheticDataModule, WorldTextDataModule):
        with pytest.raises(ValueError, match=r"`data\.init_args\.num_val` of at least 0 and at most 1e\+07, got"):
            kind(num_val=size)


@given(length=st.integers(20, 400), depth=st.sampled_from([0.0, 0.5, 1.0]), index=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_the_haystack_honours_length(length, depth, index):
    context, question, answers = WorldHaystack().needle(length, depth, index, num_words_of)
    assert length <= num_words_of(context) < length + 4
    assert f"{question} {answers[0]} ." in context


def test_synthetic_turns_ask_about_one_document():
    data = SyntheticDataModule(num_train=5, short_words=24, long_words=(100, 120), num_turns=3, num_rejected=2)
    for pair in data.pairs("train"):
        assert len(pair.turns) == 2
        assert len(pair.supporting) == 3
        questions = [pair.question, *[turn.question for turn in pair.turns]]
        for question, answer in zip(questions, [pair.chosen, *[t.chosen for t in pair.turns]], strict=True):
            assert f"{question} {answer} ." in pair.long_context
        assert all(len(turn.rejected) == 2 and turn.chosen not in turn.rejected for turn in pair.turns)
