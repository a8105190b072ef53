"""Judging, filtering and reading what a model wrote."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules.builders.checks.verifiers import combined, parse_letter, wilson
from data_modules.builders.recipes.chunk_scores import SpacyEntities, WordOverlap
from data_modules.builders.recipes.filters import Copy, Refusal, Repetition, TooShort, default_filters, first_reason
from data_modules.builders.recipes.judges import ContainsGold, TokenF1
from data_modules.builders.recipes.questions import parse_questions


@pytest.mark.parametrize(
    ("text", "answers", "expected"),
    [
        ("It was Paris, of course.", ["Paris"], 1.0),
        ("The north.", ["no"], 0.0),
        ("No.", ["no"], 1.0),
        ("paris", ["London", "Paris"], 1.0),
        ("anything", [""], 0.0),
        ("anything", [], 0.0),
        ("\u5317\u4eac\u5e02", ["\u5317\u4eac"], 1.0),
    ],
)
def test_sub_em(text, answers, expected):
    assert ContainsGold().score(text, answers) == expected


def test_only_the_conclusion_counts_if_asked_for():
    text = "Paris or London? Answer: London"
    assert ContainsGold("Answer:").score(text, ["Paris"]) == 0.0
    assert ContainsGold("Answer:").score("Paris", ["Paris"]) == 1.0


def test_token_f1():
    assert TokenF1().score("the red fox", ["red fox"]) == pytest.approx(0.8)
    assert TokenF1().score("", ["red fox"]) == 0.0


CONTEXT = " ".join(f"token{n}" for n in range(200))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "too short"),
        ("...", "too short"),
        ("I'm sorry, but I can't say.", "refusal"),
        ("As an AI, I have no view.", "refusal"),
        ("the cat sat on the mat " * 8, "repetition"),
        (" ".join(f"token{n}" for n in range(50)), "copy of the context"),
        (" ".join(f"token{n}" for n in range(10)), None),
        ("A plain answer.", None),
        ("yes", None),
    ],
)
def test_filters_name_their_reason(answer, reason):
    counts = Counter()
    assert first_reason(default_filters(), answer, CONTEXT, counts) == reason
    assert counts == ({reason: 1} if reason else {})


@given(st.text(), st.text())
def test_filters_take_any_text(answer, context):
    for each in (TooShort(), Refusal(("nope",)), Repetition(), Copy(min_words=1)):
        assert each.reason(answer, context) in (None, "too short", "refusal", "repetition", "copy of the context")


@pytest.mark.parametrize(
    ("text", "questions"),
    [
        ("1. What is it?\n2) Who came?\n3: Why?", ["What is it?", "Who came?", "Why?"]),
        ('Here they are:\n- **Who?**\n\u2022 "Why?"', ["Who?", "Why?"]),
        ("Q1: Who?\nQuestion 2. Why?", ["Who?", "Why?"]),
        ("Who was it?\nNo question here.", ["Who was it?"]),
        ("1. Who?\n2. Who?", ["Who?"]),
        ("nothing", []),
        ("1. ...\n2. Who?", ["Who?"]),
    ],
)
def test_lists_of_questions_are_read_whatever_their_marks(text, questions):
    assert parse_questions(text) == questions


def test_headings_are_no_questions_and_repeated_numbers_go():
    reply = "Questions about the text:\n1. 2. Who sings?\n2. Questions to answer:\n3. Who dances?"
    assert parse_questions(reply) == ["Who sings?", "Who dances?"]


@given(st.text())
def test_any_reply_can_be_read(text):
    assert all(question.strip() for question in parse_questions(text))
    assert parse_letter(text) in ("A", "B", None)


@pytest.mark.parametrize(
    ("text", "letter"), [("A", "A"), ("Answer: B.", "B"), ("Both", None), ("(B)", "B"), ("", None)]
)
def test_verdict_letters(text, letter):
    assert parse_letter(text) == letter


def test_wilson_interval_by_hand():
    """3 of 10, z = 1.96: centre (0.3 + 0.19208) / 1.38416, half width 1.96 sqrt(0.021 + 0.009604) / 1.38416."""
    assert wilson(3, 10) == pytest.approx((0.35551 - 0.24772, 0.35551 + 0.24772), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


def test_one_verifier_against_is_enough():
    assert combined([True, None]) is True
    assert combined([True, False]) is False
    assert combined([None]) is None
    assert combined([]) is None


def test_word_overlap_counts_content_words_once():
    scorer = WordOverlap()
    assert scorer.score("The ships of Ada left the Port, ship by ship.", "Where did Ada take the ship?") == 2
    assert scorer.score("and of the", "who is the king of it") == 0


def test_spacy_names_the_command_that_is_missing():
    with pytest.raises(ImportError, match="type: "):
        SpacyEntities(model="no_such_pipeline").score("a", "b")


def test_spacy_counts_entities_that_both_name(tmp_path):
    """A real pipeline from a folder; its entities are rules, as no trained one comes from PyPI."""
    spacy = pytest.importorskip("spacy")
    pipeline = spacy.blank("en")
    rules = pipeline.add_pipe("entity_ruler")
    rules.add_patterns([{"label": "PERSON", "pattern": "Ada Byron"}, {"label": "GPE", "pattern": "Turin"}])
    pipeline.to_disk(tmp_path / "rules")
    scorer = SpacyEntities(model=str(tmp_path / "rules"))
    assert scorer.score("Ada Byron went to Turin, and back to Turin.", "Did Ada Byron like Turin in winter?") == 2
    assert scorer.score("Somebody went to Turin in winter.", "Did Ada Byron go somewhere in winter?") == 0
