import pytest

from lit_longpo.policy.prompts.thoughts import has_thoughts, is_thinking, opens_thoughts, spoken, without_thoughts


@pytest.mark.parametrize(
    ("text", "opened", "answer"),
    [
        (" Oslo \n", False, " Oslo \n"),
        ("a <think> b", False, "a <think> b"),  # text about thoughts
        ("<think>\nRome?\n</think>\n\nOslo", False, "Oslo"),
        ("Rome?</think> Oslo", False, "Oslo"),
        ("Rome?</think> Oslo", True, "Oslo"),
        ("\n<think>Rome", False, ""),
        ("Rome", True, ""),
        ("<think>a</think>b<think>c</think>d", False, "d"),
        ("<think>a</think>b<think>c", False, "b"),
        ("<think>a </think> b</think>c", False, "c"),  # one too many
    ],
)
def test_what_is_said_is_behind_the_thoughts(text, opened, answer):
    assert without_thoughts(text, opened=opened) == answer
    assert has_thoughts(text, opened=opened) == (answer != text)


@pytest.mark.parametrize(
    ("text", "opened", "parts"),
    [
        ("Oslo", False, ["Oslo"]),
        ("Rome", True, []),
        ("<think>Rome", False, []),
        ("<think>a</think> b", False, [" b"]),
        ("a</think>b<think>c</think>d<think>e", True, ["b", "d"]),
        ("a</think>b</think>c", True, ["b</think>c"]),
    ],
)
def test_the_parts_of_a_reply_outside_of_its_thoughts(text, opened, parts):
    assert [text[start:end] for start, end in spoken(text, opened=opened)] == parts


@pytest.mark.parametrize(
    ("text", "opened", "thinks"),
    [
        ("Oslo", False, False),
        ("Rome", True, True),
        ("<think>Rome", False, True),
        ("<think>a</think>", False, False),
        ("<think>a</think>b<think>c", False, True),
        ("a <think> b", False, False),
    ],
)
def test_whether_a_reply_is_in_thoughts_at_its_end(text, opened, thinks):
    assert is_thinking(text, opened=opened) == thinks


def test_a_prompt_that_ends_in_opened_thoughts_is_known():
    assert opens_thoughts("<|Assistant|><think>\n")
    assert not opens_thoughts("<think>\n\n</think>\n\n")
