from dataclasses import replace

import pytest
from support.chat_formats import chat_tokenizer
from support.seams import compare_seams
from support.word_tokenizer import word_tokenizer
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from data_modules.records import PreferencePair, Turn
from lit_longpo.batch import View, Views
from lit_longpo.objectives import DPO, LOGO, LongPO, SoLoPO
from lit_longpo.policy import PromptFormat, PromptTemplate

CHAT = (
    "{% for m in messages %}word70 {{ m['content'] }}<eos>{% endfor %}{% if add_generation_prompt %}word70 {% endif %}"
)
EVERY = Views(policy=tuple(View(context, role) for context in ("short", "long") for role in ("chosen", "rejected")))


def pair(number, answer="word5"):
    return PreferencePair(f"p{number}", "word1 ?", "word2", "word2 word3", answer, ("word6",))


def with_turns(one):
    return replace(one, turns=(Turn("word7 ?", "word3", "word8", ("word9",)), Turn("word1 ?", "word2", "a", ("b",))))


@pytest.mark.parametrize("template", [None, CHAT])
@pytest.mark.parametrize("build", [pair, lambda number: with_turns(pair(number))])
def test_a_word_level_tokenizer_has_no_seams(template, build):
    form = PromptFormat(word_tokenizer(chat_template=template), PromptTemplate())
    for views in (EVERY, LongPO().views, SoLoPO(base=DPO()).views, DPO().views):
        report = compare_seams(form, [build(n) for n in range(3)], views)
        assert (report.checked, report.differing, report.first, report.by_view) == (3, 0, None, {})


def merging_format():
    """Byte pairs in which "?a" is one token, so a question and its answer merge."""
    letters = [*"abc ?", "\n"]
    vocab = {token: number for number, token in enumerate(["<eos>", *letters, "?a"])}
    tokenizer = Tokenizer(models.BPE(vocab, [("?", "a")], unk_token="<eos>"))
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")
    return PromptFormat(made, PromptTemplate("{context} {question}"))


def test_merges_across_the_seam_are_counted():
    pairs = [
        PreferencePair("good", "b?", "c", "c c", "b", ("c",)),
        PreferencePair("merged", "b?", "c", "c c", "a", ("c",)),
    ]
    report = compare_seams(merging_format(), pairs, DPO(context="short").views)
    assert (report.checked, report.differing, report.first) == (2, 1, "merged")
    assert report.by_view == {"short.chosen": 1}


@pytest.mark.parametrize(
    ("one", "views", "expected"),
    [
        (PreferencePair("p", "b?", "c", "c c", "b", ("a",)), DPO().views, {"long.rejected": 1}),
        (PreferencePair("p", "b?", "c", "c c", "b", ("c", "a")), LOGO(num_rejected=2).views, {"long.rejected": 1}),
        (
            PreferencePair("p", "b", "c", "c c", "b", ("c",), turns=(Turn("c?", "c", "a", ("b",)),)),
            LongPO().views,
            {"long.chosen": 1, "short.chosen": 1},
        ),
        (PreferencePair("p", "b?", "c", "c c", "a", ("c",)), SoLoPO().views, {"short.chosen": 1, "long.chosen": 1}),
    ],
)
def test_every_sequence_that_is_scored_is_compared(one, views, expected):
    assert compare_seams(merging_format(), [one], views).by_view == expected


def test_a_template_that_writes_earlier_turns_differently_is_reported():
    """Qwen3's leaves its empty reasoning out of every answer but the last."""
    form = PromptFormat(chat_tokenizer("qwen3"), PromptTemplate(options={"enable_thinking": False}))
    views = LongPO().views
    assert compare_seams(form, [pair(0)], views).differing == 0
    report = compare_seams(form, [with_turns(pair(0))], views)
    assert report.differing == 1
    assert set(report.by_view) == {"long.chosen", "long.rejected"}


def test_long_contexts_are_compared_by_their_ends():
    long = PreferencePair("p", "b?", "c", "c " * 5000 + "b", "a", ("c",))
    assert compare_seams(merging_format(), [long], DPO().views).by_view == {"long.chosen": 1}


def test_of_many_records_the_first_and_every_eighth_are_compared(monkeypatch):
    monkeypatch.setattr("data_modules.rows.seams._ALL_OF", 3)
    merged = [PreferencePair(f"p{number}", "b?", "c", "c c", "a", ("c",)) for number in range(20)]
    report = compare_seams(merging_format(), merged, DPO(context="short").views)
    assert (report.checked, report.differing, report.first) == (5, 5, "p0")  # 0, 1, 2, 8, 16
    late = [replace(one, chosen="b") if number < 16 else one for number, one in enumerate(merged)]
    assert compare_seams(merging_format(), late, DPO(context="short").views).first == "p16"
