"""Which choices an answer gives: what a reader of it would say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_longpo.choices import as_choice, choices, gives


@pytest.mark.parametrize(
    ("said", "given"),
    [
        ("The answer is B because a car moves.", "B"),
        ("A car is faster", ""),
        ("I think so", ""),
        ("A can be right", "A"),
        ("**b**", "B"),
        ('The letter "e"', "E"),
        ("A comparison of both shows that B is right", "B"),
        ("Verdict: A. Option B is close.", "A"),
        ("[[B]]", "B"),
        ("A, B", "AB"),
        ("I prefer A over B", "AB"),
        ("C++", ""),
        ("\u7b54\u6848\u662fB", "B"),  # opencompass#2600
        ("A\u4e0d\u5bf9\uff0c\u53ea\u6709\u9009\u9879B\u662f\u5bf9\u7684", "B"),
        ("\u6545\u9009C", "C"),
        ("\u9009A\u3002", "A"),
        ("\uc815\ub2f5\uc740 B\uc785\ub2c8\ub2e4", "B"),
        ("Answer: Let's think step by step. The sky is blue. B", "B"),  # opencompass#1933
        ("I considered (A), but it is incorrect. Final answer: D.", "D"),  # OPD-V#2
        ("The answer is A or B", "AB"),
        ("ANSWER: (A, C)", "AC"),  # evalscope#1560
        ("The answer is B, I think", "B"),
        ("Answer: B, C is close", "B"),
        ("Both A and B are correct", "AB"),
        ("not only A but also B", "AB"),
    ],
)
def test_a_choice_is_said_to_be_the_answer_or_named(said, given):
    assert choices(said) == set(given)


@pytest.mark.parametrize(
    ("said", "given"),
    [
        ("The answer is not A", ""),
        ("The answer isn't A", ""),
        ("The answer is not A but B.", "B"),
        ("A is wrong, so B", "B"),
        ("A isn't right. B", "B"),
        ("B is right, A is not", "B"),
        ("A is clearly incorrect, hence C", "C"),
        ("(A) Incorrect. (B) Correct", "B"),
        ("Options A, B and D are wrong; C fits", "C"),
        ("Neither A nor B. It is C", "C"),
        ("We eliminate A and B, leaving C.", "C"),
        ("C. I would not choose A or B", "C"),
        ("A can be ruled out. D.", "D"),
        ("It is option A, not B", "A"),
        ("A and not B", "A"),
        ("The answer is not A, B is right", "B"),
        ("not A or B", ""),
        ("Conclusion: (B). Eliminated: (A), (C), (D).", "B"),  # lm-evaluation-harness#3879
        ("\u4e0d\u662fA\uff0c\u662fB", "B"),
        ("Response A is not better than response B", "AB"),
    ],
)
def test_what_is_denied_is_not_given(said, given):
    assert choices(said) == set(given)


def test_an_accepted_answer_of_one_letter_is_a_choice():
    assert [as_choice(answer) for answer in ("A", "(b)", "**C.**", "5", "", "AB", "\u0410")] == [
        *("A", "b", "C"),
        *(None,) * 4,
    ]


def test_a_small_letter_is_a_word_too():
    """The variable x names no choice, but is the answer."""
    assert gives("x is the unknown", "x")
    assert gives("It is B.", "b")
    assert not gives("an axe", "x")
    assert not gives("a car", "a")


@given(st.text())
def test_any_text_is_read(text):
    assert all(len(letter) == 1 for letter in choices(text))
