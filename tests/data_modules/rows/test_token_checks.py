"""Answers that are the same as tokens, and texts that a tokenizer does not know."""

import logging
from dataclasses import replace

import pytest
from support.word_tokenizer import WORDS, word_tokenizer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from data_modules.preference import PreferenceDataModule
from data_modules.records import PreferencePair, write_pairs
from lit_longpo.objectives import DPO, LOGO, SFT
from lit_longpo.policy import PromptFormat, PromptTemplate

NOT_AGAIN = {"repeated": 0, "opposed": 0}


def module(tmp_path, pairs, objective=None, tokenizer=None, **options):
    path = tmp_path / "pairs.jsonl"
    write_pairs(path, pairs)
    form = PromptFormat(tokenizer or word_tokenizer(), PromptTemplate("{context} {question} "))
    views = (objective or DPO(context="short")).views
    return PreferenceDataModule(str(path), views=views, prompt_format=form, val_fraction=0, **options)


def pair(number, chosen, *rejected):
    return PreferencePair(f"p{number}", "word1", "word2 word3", "word2 word3 word4", chosen, rejected)


def test_pairs_without_a_preference_are_counted_and_said_once(tmp_path, caplog):
    """Both unknown to the tokenizer: the same token."""
    data = module(tmp_path, [pair(0, "Oslo", "Rome"), pair(1, "word5", "word6"), pair(2, "word5", "word5 word5")])
    with caplog.at_level(logging.WARNING):
        data.setup("fit")
    said = [record.message for record in caplog.records if "have the same tokens" in record.message]
    assert said == [
        "train: 1 of 3 pairs have the same tokens in chosen and rejected answers: they have no gradient; "
        "2 of 25 tokens (8%) are unknown to the tokenizer"
    ]
    assert (
        data.reports()["tokens"]["train"] == {"examples": 3, "equal_answers": 1, "tokens": 25, "unknown": 2} | NOT_AGAIN
    )


@pytest.mark.parametrize("prefix_sharing", [True, False])
def test_data_without_any_preference_is_refused(tmp_path, prefix_sharing):
    data = module(tmp_path, [pair(0, "Oslo", "Rome")], prefix_sharing=prefix_sharing)
    with pytest.raises(ValueError, match=r"^train: expected answers that differ, got 1 of 1 pairs"):
        data.setup("fit")


def test_one_equal_answer_of_many_is_a_preference_still(tmp_path):
    data = module(tmp_path, [pair(0, "Oslo", "Rome", "word7")], LOGO(num_rejected=2))
    data.setup("fit")
    assert data.splits["train"].tokens.equal_answers == 0


def test_chosen_answers_alone_are_no_pair(tmp_path):
    data = module(tmp_path, [pair(0, "word5", "word5 word6")], SFT(context="short"))
    data.setup("fit")
    assert data.splits["train"].tokens.equal_answers == 0


def test_forms_of_one_text_that_a_tokenizer_makes_equal_are_counted(tmp_path):
    """NFC against NFD, and characters of no width."""
    backend = Tokenizer(
        models.WordLevel({"<eos>": 0, "<unk>": 1, "é": 2, "word1": 3, "b": 4, "c": 5}, unk_token="<unk>")
    )
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace("\u200b", "")])
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", unk_token="<unk>")
    pairs = [
        PreferencePair(f"p{number}", "word1", "b b b b", "b b b b b", *answers)
        for number, answers in enumerate([("\u00e9", ("e\u0301",)), ("b\u200b", ("b",)), ("b", ("c",))])
    ]
    data = module(tmp_path, pairs, tokenizer=tokenizer)
    data.setup("fit")
    assert data.splits["train"].tokens.equal_answers == 2


def test_a_tokenizer_that_does_not_know_the_data_is_refused(tmp_path):
    pairs = [PreferencePair("p", "Wer?", "Bob lebt in Rom", "Ann lebt dort , Bob lebt in Rom", "Bob word5", ("Ann",))]
    data = module(tmp_path, pairs)
    message = (
        r"^train: expected a tokenizer that knows the data, got 7 of 12 tokens \(58%\) are unknown to the tokenizer; "
        r"above 25%.*`policy\.source`.*$"
    )
    with pytest.raises(ValueError, match=message):
        data.setup("fit")


def test_a_tokenizer_that_knows_all_says_nothing(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        module(tmp_path, [pair(0, WORDS[5], WORDS[6])]).setup("fit")
    assert not [record for record in caplog.records if "tokens" in record.message]


def test_an_end_that_is_also_the_unknown_token_is_not_unknown(tmp_path):
    """GPT-2's one special token is both; every answer ends with it."""
    tokenizer = word_tokenizer()
    tokenizer.unk_token = "<eos>"
    data = module(tmp_path, [pair(0, WORDS[5], WORDS[6])], tokenizer=tokenizer)
    data.setup("fit")
    assert data.splits["train"].tokens.unknown == 0


def warnings_of(data, caplog):
    with caplog.at_level(logging.WARNING):
        data.setup("fit")
    return [record.message for record in caplog.records]


@pytest.mark.parametrize("prefix_sharing", [True, False])
def test_pairs_that_undo_each_other_are_counted(tmp_path, caplog, prefix_sharing):
    """Ranks of three answers agree, whatever is chosen in one and rejected in another."""
    a, b, c, d = WORDS[5:9]
    pairs = [pair(0, a, b), pair(1, b, c), pair(2, a, c), pair(3, c, d), pair(4, d, c)]
    data = module(tmp_path, pairs, prefix_sharing=prefix_sharing)
    (said,) = warnings_of(data, caplog)
    assert said.startswith("train: 2 of 5 pairs prefer, in the same context, the answer that another pair rejects")
    assert (data.splits["train"].tokens.opposed, data.splits["train"].tokens.repeated) == (2, 0)


def test_the_same_answers_in_another_context_undo_nothing(tmp_path, caplog):
    a, b = WORDS[5:7]
    other = replace(pair(1, b, a), short_context="word3 word2")
    assert warnings_of(module(tmp_path, [pair(0, a, b), other]), caplog) == []


def test_one_of_several_rejected_answers_is_enough_to_undo_a_pair(tmp_path):
    a, b, c = WORDS[5:8]
    data = module(tmp_path, [pair(0, a, b, c), pair(1, c, a, b)], LOGO(num_rejected=2))
    data.setup("fit")
    assert data.splits["train"].tokens.opposed == 2


def test_examples_that_are_there_again_are_counted(tmp_path, caplog):
    """Under names of their own; SFT reads the same of pairs that differ in what they reject."""
    a, b, c = WORDS[5:8]
    pairs = [pair(0, a, b), pair(1, a, b), pair(2, a, c), pair(3, b, c)]
    assert warnings_of(module(tmp_path, pairs), caplog) == [
        "train: 1 of 4 examples have all tokens of an earlier one, and count again"
    ]
    alone = module(tmp_path, pairs, SFT(context="short"))
    alone.setup("fit")
    assert alone.splits["train"].tokens.repeated == 2
