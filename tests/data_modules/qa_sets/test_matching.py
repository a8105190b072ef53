"""What counts as the same answer."""

import pytest

from data_modules.qa_sets.matching import mentions, normalise, words_of


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


def test_how_a_sign_is_drawn_is_no_word():
    """Selectors of emoji and of forms of characters are marks, as vowels are: TokenF1 would count them as words."""
    assert words_of(normalise("Rome \u2764\ufe0f")) == ["rome"]
    assert normalise("1\ufe0f\u20e3") == "1"
    assert mentions("\u845b\U000e0100\u57ce", ["\u845b\u57ce"])
