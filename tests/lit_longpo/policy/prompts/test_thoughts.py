import pytest

from lit_longpo.policy.prompts.thoughts import (
    has_thoughts,
    in_think_marks,
    is_thinking,
    opens_thoughts,
    spoken,
    unknown_marks,
    without_thoughts,
)

# As models write them whose server or decoder takes no marks away, and what they would be in `<think>`.
_IN_OTHER_MARKS = [
    ("[THINK]Rome?[/THINK]Oslo", "<think>Rome?</think>Oslo"),
    ("<thinking>\nRome?\n</thinking>\n\nOslo", "<think>\nRome?\n</think>\n\nOslo"),
    ("<thinking>Rome?</think>Oslo", "<think>Rome?</think>Oslo"),
    (" <Reasoning>Rome?</Reasoning> Oslo", "<think>Rome?</think> Oslo"),
    ("<seed:think>Rome?</seed:think>Oslo", "<think>Rome?</think>Oslo"),
    ("\u25c1think\u25b7Rome?\u25c1/think\u25b7Oslo", "<think>Rome?</think>Oslo"),
    ("<|START_THINKING|>Rome?<|END_THINKING|><|START_RESPONSE|>Oslo", "<think>Rome?</think>Oslo"),
    ("<|channel>thought\nRome?<channel|>Oslo", "<think>Rome?</think>Oslo"),
    (
        "<|channel|>analysis<|message|>Rome?<|end|><|start|>assistant<|channel|>final<|message|>Oslo",
        "<think>Rome?</think>Oslo",
    ),
    ("analysisRome?assistantfinalOslo", "<think>Rome?</think>Oslo"),
    ("<|channel|>final<|message|>Oslo", "Oslo"),
    (
        "<|channel|>analysis<|message|>Rome?<|end|><|channel|>final <|constrain|>json<|message|>Oslo",
        "<think>Rome?</think>Oslo",
    ),
    ("<reasoning>Rome?<answer>Oslo", "<think>Rome?</think><answer>Oslo"),
    ("<|START_RESPONSE|>Oslo", "Oslo"),  # mere-run#100
]


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


@pytest.mark.parametrize(("text", "in_think"), _IN_OTHER_MARKS)
def test_known_marks_that_wrap_the_beginning_of_a_reply_are_thoughts(text, in_think):
    """They were a part of the answer (openhuman#6184, Primer#109, vllm#38855)."""
    assert (without_thoughts(text).removeprefix("<answer>"), has_thoughts(text)) == ("Oslo", True)
    assert not is_thinking(text)
    assert [in_think_marks(each) for each in (text, in_think)] == [in_think, in_think]


@pytest.mark.parametrize("text", ["[THINK]Rome, as", "<reasoning>Rome, as", "<|channel|>analysis<|message|>Rome, as"])
def test_a_reply_that_was_cut_off_in_other_marks_says_nothing(text):
    assert (without_thoughts(text), is_thinking(text), in_think_marks(text)) == ("", True, "<think>Rome, as")
    assert without_thoughts(f"{text}</think>Oslo", opened=True) == "Oslo"  # the prompt's own marks end


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("<scratchpad>Rome?</scratchpad> Oslo", "<scratchpad>"),
        ("[PLAN]Rome?[/PLAN]Oslo", "[PLAN]"),
        ("<answer>Oslo</answer>", "<answer>"),  # FlagEvalMM#105
        ("analysis of the city", None),
        ("The <thinking> tag</thinking> is one", None),
        ("<reasoning>Rome?</reasoning>Oslo", None),
        ("[1] Oslo", None),
        ("[Reasoning] It is said. [Answer] Oslo", None),  # headings
    ],
)
def test_other_marks_are_left_and_can_be_told(text, mark):
    assert unknown_marks(text) == mark
    if not text.startswith("<reasoning>"):
        assert without_thoughts(text) == in_think_marks(text) == text
