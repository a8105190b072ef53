"""What counts as the same answer."""

import pytest

from data_modules.qa_sets.matching import holds, mentions, normalise, words_of


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        ("G. Stanley Hall led it.", "g stanley  hall", True),
        ("a famous man", "US", False),
        ("in the US.", "US", True),
        ("no one", "no", False),
        ("Oslo's port", "Oslo", True),
        ("It seats 1,000.", "1000", True),
        ("about 3.5 m", "5 m", False),
        ("\u9ec4\u8749\u662f\u704c\u6728", "\u704c\u6728", True),
    ],
)
def test_mentions(text: str, answer: str, expected: bool) -> None:
    assert mentions(text, [answer]) is expected


def test_a_capital_i_with_a_dot_is_an_i():
    assert normalise("\u0130STANBUL") == normalise("I\u0307stanbul") == normalise("Istanbul")


def test_how_a_sign_is_drawn_is_no_word():
    """Selectors of emoji and of forms of characters are marks, as vowels are: TokenF1 would count them as words."""
    assert words_of(normalise("Rome \u2764\ufe0f")) == ["rome"]
    assert normalise("1\ufe0f\u20e3") == "1"
    assert mentions("\u845b\U000e0100\u57ce", ["\u845b\u57ce"])


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("-5", "5", False),  # inspect_ai#4620: a wrong answer was right for judges
        ("\u22125", "-5", True),
        ("\u20135 \u00b0C", "-5 \u00b0C", True),
        ("(-1,000)", "-1000", True),
        (".5", "5", False),
        (".5", "0.50", False),
        ("-.5", "-0.5", True),
        ("\u6c14\u6e29-5\u5ea6", "\u6c14\u6e295\u5ea6", False),
        ("COVID-19", "COVID 19", True),
        ("2020-21", "2020 21", True),
        ("\u0422-34", "\u0422 34", True),
        ("f(x)-3", "f(x) 3", True),
        ("- 5 apples", "5 apples", True),
        ("sunk in--1912--at sea", "sunk in 1912 at sea", True),  # two hyphens are a dash
    ],
)
def test_a_minus_belongs_to_its_number_and_a_hyphen_to_none(one, other, same):
    assert (normalise(one) == normalise(other)) is same


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10\u00b2 m", "102 m", False),  # rasbt/reasoning-from-scratch#99: a power was read as digits
        ("10\u207b\u00b3", "10^-3", True),
        ("1\u00bd cups", "1 1/2 cups", True),  # inspect_ai#897
        ("1\u00bd cups", "11/2 cups", False),
        ("5 km\u00b2", "5 km2", True),
        ("\u0663\u066b\u0661\u0664", "3.14", True),
        ("\u0967\u096f\u096a\u096d", "1947", True),
        ("\u0661\u066c\u0662\u0663\u0664", "1,234", True),
    ],
)
def test_numbers_are_one_however_they_are_drawn(one, other, same):
    assert (normalise(one) == normalise(other)) is same


@pytest.mark.parametrize(
    ("text", "answer", "held"),
    [
        ("in the US.", "U.S.", True),  # by SQuAD's rule too; here it was wrong, so a right answer was rejected
        ("the U.S. Army", "US Army", True),
        ("Washington, DC", "Washington D.C.", True),
        ("J. K. Rowling wrote it", "JK Rowling", True),
        ("John F. Kennedy", "F. Kennedy", True),
        ("in the U.S. I think", "I think", True),
        ("e.g. a dog", "a dog", True),
        ("at 9 a.m. Monday", "9 am", True),
        ("in the U.S.A today", "U.S.A.", True),  # was "us a"
        ("J R R Tolkien wrote it", "J. R. R. Tolkien", True),
        ("Plan B I think", "Plan B", True),
        ("Let us see. The text tells us that it is France", "U.S.", False),
        ("the us", "US", True),
    ],
)
def test_points_are_no_part_of_initials(text, answer, held):
    assert holds(normalise(text), normalise(answer)) is held


def test_a_number_is_not_held_by_its_negative():
    for text, answer in (("-5 degrees", "5 degrees"), ("\u6c14\u6e29-5\u5ea6", "5\u5ea6")):
        assert not holds(normalise(text), normalise(answer))
        assert holds(normalise(text), normalise(text))


def test_numbers_and_latin_words_are_found_between_characters():
    """Chinese and Japanese write no space before 12 or Oslo."""
    for text, answer in (("\u7b2c12\u7ae0", "12"), ("1,000\u5186", "1000"), ("\u7b54\u6848\u662fOslo\u3002", "Oslo")):
        assert holds(normalise(text), normalise(answer))
    for text, answer in (("\u7b2c112\u7ae0", "12"), ("\u6c14\u6e29-5\u5ea6", "5"), ("3.5\u5ea6", "5"), ("north", "no")):
        assert not holds(normalise(text), normalise(answer))
