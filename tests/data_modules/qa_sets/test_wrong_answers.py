"""Wrong answers: of the right kind, never right."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_modules.qa_sets.answer_kinds import finders_of
from data_modules.qa_sets.matching import normalise
from data_modules.qa_sets.wrong_answers import read_wrong_answers, wrong_answers
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


FACTS = Passage(
    "Tal Prize",
    "Ada Mary Holm, whom friends called Holm, won the Tal Prize of the United States for two films on 3 May 1912. "
    "Bo Ek came second with 14 votes on 9 June 1911, while the US jury of the Royal Film Institute chose 2 more. "
    "The winner spoke of hard rain and of warm snow. Despite Lee Fog, she could dance.",
)
NEAR = Passage("", "Lee Moss came from Norway with 77 songs.")
FAR = Passage("", "Kim Vale came from Peru in the 19th century.")


def read(*gold: str, question: str = "what?", count: int = 1) -> list[tuple[str, int]]:
    found = read_wrong_answers(question, gold, ([FACTS], [NEAR], [FAR]), count, random.Random(0))
    return [(wrong.text, wrong.place) for wrong in found]


@pytest.mark.parametrize(
    ("gold", "expected"),
    [
        ("3 May 1912", ("9 June 1911", 0)),
        ("14", ("77", 1)),  # of two digits, too: likelier than a number of other length beside the answer
        ("Bo Ek", ("Tal Prize", 0)),
        ("Bo Ek.", ("Tal Prize", 0)),
        ("hard rain", ("warm snow", 0)),
        ("18th century", ("19th century", 2)),  # its kind is nowhere near, and goes before another kind
        ("yes", ("no", 0)),
    ],
)
def test_a_reader_of_the_facts_could_say_it(gold: str, expected: tuple[str, int]) -> None:
    assert read(gold)[0] == expected


@pytest.mark.parametrize(
    ("gold", "never"),
    [
        ("Ada Mary Holm", {"Holm", "Ada Mary Holm", "friends"}),
        ("two", {"2", "two"}),
        ("US", {"United States"}),
        ("United States", {"US"}),
        ("RFI", {"Royal Film Institute"}),
        ("Lee Moss", {"Despite Lee Fog", "Lee Fog"}),
        ("on 3 May 1912", {"3 May 1912"}),
        ("hard rain", {"she could", "could dance", "hard"}),
    ],
)
def test_another_name_of_the_answer_is_not_wrong(gold: str, never: set[str]) -> None:
    found = {text for text, _ in read(gold, count=40)}
    assert found
    assert not found & never


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


def test_a_capital_at_the_start_of_a_sentence_is_no_name_and_behind_a_comma_is_one():
    names, *_ = finders_of("Rome")
    assert list(names(Passage("", "Yesterday it rained, Oslo slept."))) == ["", "Oslo"]
