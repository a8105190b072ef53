"""Answers that no pair is made of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import bench

from data_modules.builders.recipes.filters import Copy, Refusal, Repetition, TooShort, default_filters, first_reason

CONTEXT = " ".join(f"token{n}" for n in range(200))
CHINESE = "".join(chr(0x4E00 + number) for number in range(50))  # no spaces between its words


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
        (CHINESE, "copy of the context"),
        (CHINESE[:30], None),
    ],
)
def test_filters_name_their_reason(answer, reason):
    assert first_reason(default_filters(), answer, f"{CONTEXT} {CHINESE}", own := bench()) == reason
    assert own.counts == ({reason: 1} if reason else {})


@pytest.mark.parametrize(
    ("opened", "reply", "reason"),
    [
        (False, "<think>I cannot answer. Or can I?</think>In Oslo.", None),
        (False, f"<think>{' '.join(f'token{n}' for n in range(50))}</think>In Oslo.", None),
        (False, "<think>Oslo?</think>I am sorry, but no.", "refusal"),
        (False, "<think>Let us see, it may be", "thoughts without an answer"),
        (False, "<think>Oslo.</think>\n", "thoughts without an answer"),
        (True, "Let us see, it may be", "thoughts without an answer"),
        (True, "I cannot answer.</think>In Oslo.", None),
    ],
)
def test_filters_read_what_is_said_behind_thoughts(opened, reply, reason):
    """LongPO and LOGO chose thoughts that were cut off; doubts in thoughts were refusals, quotations in them copies."""
    assert first_reason(default_filters(), reply, CONTEXT, bench(opened=opened)) == reason


def test_words_that_a_script_joins_are_counted_by_characters():
    assert TooShort(3).reason("\u5317\u4eac\u5e02", "") is None
    assert TooShort(4).reason("\u5317\u4eac\u5e02", "") == "too short"


@given(st.text(), st.text())
def test_filters_take_any_text(answer, context):
    for each in (TooShort(), Refusal(("nope",)), Repetition(), Copy(min_words=1)):
        assert each.reason(answer, context) in (None, "too short", "refusal", "repetition", "copy of the context")
