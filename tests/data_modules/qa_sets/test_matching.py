"""What counts as the same answer."""

import pytest

from data_modules.qa_sets.matching import mentions


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        ("G. Stanley Hall led it.", "g stanley  hall", True),
        ("a famous man", "US", False),
        ("in the US.", "US", True),
        ("no one", "no", False),
        ("Oslo's port", "Oslo", True),
        ("\u9ec4\u8749\u662f\u704c\u6728", "\u704c\u6728", True),
    ],
)
def test_mentions(text: str, answer: str, expected: bool) -> None:
    assert mentions(text, [answer]) is expected
