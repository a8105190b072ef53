"""Which texts show nothing."""

import pytest

from lit_longpo.files.plain_text import is_blank

BLANK = ["", " \n\u3000", "\u200b", "\ufeff", "\u00ad\u2060", "\ufe0f\U000e0100", "\x00\x1b", "\u3164", "\u200d \u202e"]
# A heart with a variation selector, an accent alone, a sign of a font's own, an emoji that older Pythons do not know,
# Arabic and Kaithi signs that are drawn though Unicode counts them among those for layout (the end of a verse).
SHOWN = ["a", ".", "\u200b0", "\u2764\ufe0f", "\u0301", "\ufffd", "\ue000", "\u4e2d", "\U0001fae9"]
SHOWN += ["\u0600", "\u0605", "\u06dd", "\u070f", "\u0891", "\u08e2", "\U000110bd", "\U000110cd"]


@pytest.mark.parametrize("text", BLANK)
def test_what_nobody_sees_is_blank(text):
    assert is_blank(text)


@pytest.mark.parametrize("text", SHOWN)
def test_what_shows_is_not(text):
    assert not is_blank(text)
