"""Verifiers on pairs whose truth is known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import Scripted, bench, drive, world_build

from data_modules.builders.checks.verifiers import GoldAnswer, LogProbGap, ModelJudge, combined, parse_letter, wilson
from data_modules.records import PreferencePair, Turn
from lit_longpo.errors import InputError
from lit_longpo.policy import PolicyConfig, PromptTemplate

FACTS = "Pour Ada tea . Show Cora Oslo ."
GOOD = PreferencePair("p", "Pour Ada", FACTS, FACTS, "tea", ("milk",), ("tea",))
FLIPPED = PreferencePair("p", "Pour Ada", FACTS, FACTS, "milk", ("tea",), ("tea",))
TURN = Turn("Show Cora", FACTS, "Oslo", ("Rome",))
POLICY = PolicyConfig(template=PromptTemplate("{context} Complete: {question}", chat=False))


THOUGHT = [
    ("I prefer A over B", "A"),
    ("A says more than B", None),
    ("A comparison of both shows that B is right", "B"),
    ("B, not A", "B"),
    ("The answer is not A", None),  # evalscope#1578: it was the verdict A
    ("It isn't option B", None),
    ("It is not A or B", None),  # both are denied
    ("<think>A names the tea.</think>\nB", "B"),
    ("Is it A? No.</think> B", "B"),
    ("<think>Let us see: A", None),
]
# With reasons beside it (opencompass#2598, FastChat#3921): only what is said to be the answer.
REASONED = [
    ("Answer: A. Option B is wrong", "A"),
    ("A names the tea, B the milk.\n**Answer:** B", "B"),
    ("The better answer is (B), as A says milk", "B"),
    ("A names the tea. [[B]]", "B"),
    ("Answer A is better than Answer B", "A"),
    ("Answer: A or B", None),
    ("The answer is A. No, the answer is B", None),
    ("A: milk. B: tea", None),
]


def verdict(verifier, pair, answer=lambda request: ""):
    return drive(verifier.steps(pair, bench()), answer)


@pytest.mark.parametrize("verifier", [GoldAnswer(), LogProbGap(POLICY)], ids=lambda value: type(value).__name__)
def test_flips_are_found(verifier):
    assert verdict(verifier, GOOD)[0] is True
    assert verdict(verifier, FLIPPED)[0] is False


def test_thoughts_that_the_prompt_opened_are_not_judged():
    """A rejected answer that was cut off in them is no right one; a gold answer has none."""
    pair = PreferencePair("p", "Pour Ada", FACTS, FACTS, "tea", ("tea or",), ("tea",))
    assert drive(GoldAnswer().steps(pair, bench()), None)[0] is None
    assert drive(GoldAnswer().steps(pair, bench(opened=True)), None)[0] is True
    thought = PreferencePair("p", "Pour Ada", FACTS, FACTS, "milk?</think>tea", ("tea?</think>milk",), ("tea",))
    result, asked = drive(ModelJudge().steps(thought, bench(opened=True)), lambda request: "A, as")
    assert result is None  # the judge was cut off, too
    assert "Answer A: tea\n\nAnswer B: milk\n\n" in asked[0].text


def test_a_model_that_cannot_be_loaded_is_refused_before_anybody_is_asked(tmp_path):
    """All answers were asked for and paid, and then every pair failed."""
    generator, gap = Scripted(), LogProbGap(PolicyConfig(source=str(tmp_path / "none")))
    with pytest.raises(InputError, match="verifier LogProbGap: expected a model folder at"):
        world_build(tmp_path / "out", verifiers=(gap,), generator=generator).run()
    assert not generator.asked


def test_the_policys_model_in_another_dtype_is_told(tmp_path, caplog):
    """`--policy.dtype bfloat16` left the verifier's copy in float32 without a word."""
    gap = LogProbGap(PolicyConfig())
    gap._loaded = "stays"
    for dtype in ("float32", "bfloat16"):
        gap.open(PolicyConfig(dtype=dtype))
    (told,) = caplog.messages
    assert "embedded once more in float32" in told
    assert told.endswith("type --verifiers.init_args.policy.dtype bfloat16")
    LogProbGap(POLICY).open(PolicyConfig(source="elsewhere", dtype="bfloat16"))
    assert len(caplog.messages) == 1 or "once more" not in caplog.messages[-1]


def test_unknown_is_neither():
    assert verdict(GoldAnswer(), PreferencePair("p", "q", "c", "c", "tea", ("milk",)))[0] is None
    assert verdict(GoldAnswer(), PreferencePair("p", "q", "c", "c", "rice", ("milk",), ("tea",)))[0] is None
    assert verdict(LogProbGap(POLICY, min_gap=1e9), GOOD)[0] is None


@pytest.mark.parametrize(
    ("letters", "expected"), [(("A", "B"), True), (("B", "A"), False), (("A", "A"), None), (("B", "?"), None)]
)
def test_a_judge_has_to_agree_with_itself(letters, expected):
    def answer(request):
        return letters[int(request.id[-1])]

    found, asked = verdict(ModelJudge(), GOOD, answer)
    assert found is expected
    assert len(asked) == 2
    assert asked[0].text.index("tea") < asked[0].text.index("milk")


def test_replies_that_say_nothing_are_counted():
    made = bench()
    assert drive(ModelJudge().steps(GOOD, made), lambda request: "<think>Let us see")[0] is None
    assert made.counts == {"judge's replies that name neither A nor B, or both": 2}


def test_every_turn_is_judged():
    pair = PreferencePair("p", "Pour Ada", FACTS, FACTS, "tea", ("milk",), turns=(TURN,))
    found, asked = verdict(ModelJudge(), pair, lambda request: "AB"[int(request.id[-1])])
    assert found is True
    assert len(asked) == 4
    one_worse = verdict(ModelJudge(), pair, lambda r: "AB"[int(r.id[-1])] if "judge0" in r.id else "BA"[int(r.id[-1])])
    assert one_worse[0] is False


@pytest.mark.parametrize(
    ("text", "letter"), [("A", "A"), ("Answer: B.", "B"), ("Both", None), ("(B)", "B"), ("", None), *THOUGHT, *REASONED]
)
def test_verdict_letters(text, letter):
    assert parse_letter(text) == letter


def test_wilson_interval_by_hand():
    """3 of 10, z = 1.96: centre (0.3 + 0.19208) / 1.38416, half width 1.96 sqrt(0.021 + 0.009604) / 1.38416."""
    assert wilson(3, 10) == pytest.approx((0.35551 - 0.24772, 0.35551 + 0.24772), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


def test_one_verifier_against_is_enough():
    assert combined([True, None]) is True
    assert combined([True, False]) is False
    assert combined([None]) is None
    assert combined([]) is None


@given(st.text())
def test_a_letter_is_read_from_any_reply(text):
    assert parse_letter(text) in ("A", "B", None)
