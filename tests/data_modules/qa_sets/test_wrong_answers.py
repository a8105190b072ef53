"""Wrong answers: of the right kind, never right."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_modules.qa_sets.matching import normalise
from data_modules.qa_sets.wrong_answers import wrong_answers
from data_modules.records import Passage

PASSAGES = [
    Passage("Anna Berg (painter)", "Anna Berg was born on 3 May 1912 in Oslo. She sold 250 paintings in 1950."),
    Passage(
        "River Tal",
        "The Tal is 91 km long. It flows past Franklin D. Moore's old mill, built in the 18th century.",
    ),
    Passage("Glass", "Coloured glass is made with metal salts, often by skilled workers."),
]


def best(answer: str, *aliases: str, question: str = "what?") -> str:
    return wrong_answers(question, (answer, *aliases), PASSAGES, 1, random.Random(0))[0]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("11 July 1899", {"3 May 1912"}),
        ("1801", {"1912", "1950"}),
        ("300", {"250"}),
        ("12 km", {"91 km"}),
        ("19th century", {"18th century"}),
        ("Carl Holm", {"Anna Berg", "River Tal"}),
        ("Theodor W. Adorno", {"Franklin D. Moore"}),
        ("copper wire", {"metal salts", "skilled workers", "old mill", "sold 250"}),
        ("yes", {"no"}),
        ("No", {"yes"}),
    ],
)
def test_same_kind(answer: str, expected: set[str]) -> None:
    assert best(answer) in expected


def test_chinese_is_cut_at_punctuation() -> None:
    passage = Passage(
        "", "\u9ec4\u8749\u662f\u704c\u6728\uff0c\u82b1\u671f\u5f88\u957f\u3002\u539f\u4ea7\u5df4\u897f\u3002"
    )
    found = wrong_answers("?", ("\u539f\u4ea7\u4e2d\u56fd",), [passage], 1, random.Random(0))
    assert found == ("\u539f\u4ea7\u5df4\u897f",) or found == ("\u82b1\u671f\u5f88\u957f",)


def test_nothing_the_question_says() -> None:
    assert best("Carl Holm", question="Who, other than Anna Berg, crossed the River Tal?") not in (
        "Anna Berg",
        "River Tal",
    )


answers = st.lists(
    st.sampled_from(["Anna", "Oslo", "1912", "3 May 1912", "Berg", "the mill", "glass", "91", "Nobody Knows"]),
    min_size=1,
    max_size=3,
)


@given(answers, st.integers(1, 6), st.integers(0, 5))
@settings(max_examples=150, deadline=None)
def test_never_equal_inside_or_around_a_gold_answer(gold: list[str], count: int, seed: int) -> None:
    found = wrong_answers("what?", gold, PASSAGES, count, random.Random(seed))
    assert len(found) <= count
    assert len({normalise(text) for text in found}) == len(found)
    for text in map(normalise, found):
        assert text
        assert not any(text in normalise(answer) or normalise(answer) in text for answer in gold)
        assert any(text in normalise(f"{p.title} {p.text}") for p in PASSAGES)


def test_no_candidate_gives_none() -> None:
    assert wrong_answers("what?", ("x",), [], 1, random.Random(0)) == ()
