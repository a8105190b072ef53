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
    "answer",
    [
        "I don't have enough information.",  # langcheck#24
        "I don't know.",
        "N/A",
        "N.A.",
        "As an A.I. assistant, I have no view.",
        "I\u2019m sorry, I cannot find that in the text.",
        "I'm afraid I can't help with that.",
        "I cannot fulfill this request.",  # refusal-circuit-dpo#7
        "As an AI assistant, I have no view.",
        "The context does not contain information about the author.",
        "Unfortunately, the provided document doesn't explicitly specify who.",
        "It is not stated in the given text.",
        "There is no mention of her.",
        "The question cannot be answered based on the passage.",
        "It is not possible to determine who sang.",
        "Please provide more information.",
        "Not mentioned.",
        "It is not mentioned.",
        "The author's name isn't mentioned in the text.",
        "The passage provides no information about her age.",
        "The context does not seem to contain the answer.",
        "No information about this is given.",
        "The answer cannot be found in the text.",
        "We cannot answer this.",
        "I must decline to answer.",
        "I'm not designed to answer that.",  # promptfoo#10220
        "This request cannot be fulfilled.",
        "I don't have enough context to answer.",
        "Not enough information to answer the question.",
        "Unable to answer.",
        "I'm not sure.",
        "\u62b1\u6b49\uff0c\u6211\u65e0\u6cd5\u56de\u7b54\u8fd9\u4e2a\u95ee\u9898\u3002",
        "\u6211\u4e0d\u77e5\u9053\u3002",
        "\u65e0\u6cd5\u56de\u7b54",
        "\u6587\u4e2d\u6ca1\u6709\u63d0\u5230\u3002",
    ],
)
def test_answers_that_say_there_is_none(answer):
    """Most of what models say was not in the list, and LongPO and LOGO chose it."""
    assert Refusal().reason(answer, "") == "refusal"


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry to hear that.",  # promptfoo#9756
        '"I cannot let you pass," the guard said.',
        "As an AI engineer, she builds systems.",
        "Please provide the invoice within 30 days.",
        "He is not mentioned in the will.",
        "The river does not contain fish.",
        "\u4ed6\u8bf4\u4ed6\u4e0d\u77e5\u9053\u3002",
        "Not Ada.",
        '"I cannot do that," the guard said.',  # promptfoo#9793
        "Without the logs, I cannot tell you exactly why it failed, but here are likely causes.",
        "The species cannot be found in the wild.",
        "He was unable to answer the king.",
        "Absolutely not.",
        "Na.",  # sodium
    ],
)
def test_answers_with_words_of_refusals(answer):
    assert Refusal().reason(answer, "") is None


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
        (False, "<reasoning>I cannot answer.</reasoning>In Oslo.", None),
        (False, "[THINK]Let us see, it may be", "thoughts without an answer"),
    ],
)
def test_filters_read_what_is_said_behind_thoughts(opened, reply, reason):
    """LongPO and LOGO chose thoughts that were cut off; doubts in thoughts were refusals, quotations in them copies."""
    assert first_reason(default_filters(), reply, CONTEXT, bench(opened=opened)) == reason


@pytest.mark.parametrize("answer", ["ab" * 300, "court " * 3000, f"It is Oslo. {'call ' * 100}So."])
def test_a_loop_is_a_repetition_without_spaces_too(answer):
    """vllm-mlx#65, claude-code#82803, hermes-agent#54894: one word of 600 letters was no n-gram."""
    assert Repetition().reason(answer, "") == "repetition"
    assert Repetition().reason("Donaudampfschifffahrtsgesellschaft, 9f86d081884c7d659a2feaa0c55ad015", "") is None


def test_answers_in_unknown_marks_are_counted():
    own = bench()
    replies = ("<scratchpad>Rome?</scratchpad> Oslo", "Oslo", "<reasoning>Rome?</reasoning>Oslo")
    assert [first_reason([], reply, CONTEXT, own) for reply in replies] == [None] * 3
    [(name, times)] = own.counts.items()
    assert ("marks that are not known" in name, times) == (True, 1)


def test_words_that_a_script_joins_are_counted_by_characters():
    assert TooShort(3).reason("\u5317\u4eac\u5e02", "") is None
    assert TooShort(4).reason("\u5317\u4eac\u5e02", "") == "too short"


@given(st.text(), st.text())
def test_filters_take_any_text(answer, context):
    for each in (TooShort(), Refusal(("nope",)), Repetition(), Copy(min_words=1)):
        assert each.reason(answer, context) in (None, "too short", "refusal", "repetition", "copy of the context")
