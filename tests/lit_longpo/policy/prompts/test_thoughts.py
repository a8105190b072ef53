import pytest

from lit_longpo.policy.prompts.thoughts import answer_start, has_thoughts, opens_thoughts, without_thoughts


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
    ],
)
def test_what_is_said_is_behind_the_thoughts(text, opened, answer):
    assert without_thoughts(text, opened=opened) == answer
    assert has_thoughts(text, opened=opened) == (answer != text)


@pytest.mark.parametrize(
    ("text", "opened", "answer"),
    [("Oslo", False, "Oslo"), ("Rome", True, None), ("<think>Rome", False, None), ("<think>a</think> b", False, " b")],
)
def test_an_answer_begins_where_the_thoughts_are_over(text, opened, answer):
    start = answer_start(text, opened=opened)
    assert (None if start is None else text[start:]) == answer


def test_a_prompt_that_ends_in_opened_thoughts_is_known():
    assert opens_thoughts("<|Assistant|><think>\n")
    assert not opens_thoughts("<think>\n\n</think>\n\n")
