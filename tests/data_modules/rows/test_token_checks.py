"""Answers that are the same as tokens, and texts that a tokenizer does not know."""

import logging

import pytest
from support.word_tokenizer import WORDS, word_tokenizer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from data_modules.preference import PreferenceDataModule
from data_modules.records import PreferencePair, write_pairs
from lit_longpo.objectives import DPO, LOGO, SFT
from lit_longpo.policy import PromptFormat, PromptTemplate


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
    assert data.reports()["tokens"]["train"] == {"examples": 3, "equal_answers": 1, "tokens": 25, "unknown": 2}


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
