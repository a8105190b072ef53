"""Pairs and needles from the synthetic world."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.word_tokenizer import word_tokenizer

from data_modules.files import content
from data_modules.pretraining import WorldTextDataModule
from data_modules.synthetic import SyntheticDataModule, WorldHaystack
from data_modules.worlds.world import num_words_of, vocabulary
from lit_longpo.batch import View, Views
from lit_longpo.policy import PromptFormat, PromptTemplate


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


def test_a_fact_that_is_stated_in_two_worlds_makes_them_no_document(caplog):
    """The demo said that 59 of its 64 validation documents were trained on: "Hire Dan vans ." was stated in both."""
    words = PromptFormat(word_tokenizer(vocabulary()), PromptTemplate("{context} Complete: {question} "))
    data = SyntheticDataModule(
        num_train=300,
        num_val=30,
        short_words=32,
        long_words=(40, 60),
        prompt_format=words,
        views=Views((View("long", "chosen"),)),
    )
    facts = {
        split: {pair.long_context[slice(*pair.supporting[0])] for pair in data.pairs(split)}
        for split in ("train", "val")
    }
    assert facts["train"] & facts["val"]
    data.setup("fit")
    assert data.documents == {"train": 300, "val": 30, "train and val": 0}
    assert "also in the training split" not in caplog.text


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1, 10**26])
def test_seeds_that_no_generator_takes_are_refused(seed):
    with pytest.raises(ValueError, match=f"expected `data.init_args.seed` .* got {seed}"):
        SyntheticDataModule(seed=seed)


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


def test_a_later_start_reads_the_tokens_and_makes_no_pair(tmp_path, monkeypatch):
    monkeypatch.setattr(content, "_SOON_TOKENISED_BYTES", 1_000)
    made = []
    monkeypatch.setattr(SyntheticDataModule, "_pair", made_by(SyntheticDataModule._pair, made))

    def ready(kind=SyntheticDataModule, **options):
        made.clear()
        views = Views((View("long", "chosen"), View("long", "rejected")))
        data = kind(num_train=4, num_val=0, short_words=24, **{"long_words": (60, 70)} | options)
        data.views, data.prompt_format = views, PromptFormat(word_tokenizer(vocabulary()), PromptTemplate())
        monkeypatch.chdir(tmp_path)
        data.setup("fit")
        return data

    first = ready()
    assert len(made) == 4
    assert ready().fingerprint() == first.fingerprint()
    assert not made
    for change in ({"seed": 1}, {"hops": 2}, {"num_turns": 2}, {"num_rejected": 2}, {"long_words": (60, 71)}):
        ready(**change)
        assert len(made) == 4, change
    for _ in range(2):  # what another class makes is not known
        ready(type("Mine", (SyntheticDataModule,), {}))
        assert len(made) == 4


def made_by(method, made):
    def noted(self, split, index):
        made.append(index)
        return method(self, split, index)

    return noted
