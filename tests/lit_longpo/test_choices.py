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
        ("<answer>B</answer> because A is outdated", "B"),
        ("A and B are close. <answer> (B) </answer>", "B"),
        ("<answer>A or B</answer>", "AB"),
        ("A, B", "AB"),
        ("I prefer A and B", "AB"),
        ("C++", ""),
        ("\u7b54\u6848\u662fB", "B"),  # opencompass#2600
        ("A\u4e0d\u5bf9\uff0c\u53ea\u6709\u9009\u9879B\u662f\u5bf9\u7684", "B"),
        ("\u6545\u9009C", "C"),
        ("\u9009A\u3002", "A"),
        ("Die richtige Antwort ist B, nicht A", "B"),
        ("La r\u00e9ponse correcte est la B, pas A", "B"),
        ("La respuesta correcta es (B), no A", "B"),
        ("A resposta \u00e9 B. A \u00e9 vaga.", "B"),
        ("A ist vage. L\u00f6sung: **B**", "B"),
        ("\uc815\ub2f5\uc740 B\uc785\ub2c8\ub2e4", "B"),
        ("Answer: Let's think step by step. The sky is blue. B", "B"),  # opencompass#1933
        ("I considered (A), but it is incorrect. Final answer: D.", "D"),  # OPD-V#2
        ("The answer is A or B", "AB"),
        ("ANSWER: (A, C)", "AC"),  # evalscope#1560
        ("The answer is B, I think", "B"),
        ("Answer: B, C is close", "B"),
        ("Both A and B are correct", "AB"),
        ("not only A but also B", "AB"),
        ("(B) False", "B"),  # the choice's own text
        ("(B)\u9519\u8bef", "B"),
        ("(A) Incorrect. (B) Correct", "AB"),
        ("B is the correct answer. A is named in passing.", "B"),
        ("A is not mentioned, C is. So C.", "C"),
        ("Let's look at each option:\nA) no\nB) yes\n\nThe answer is B.", "B"),
        ("\u7b54\u6848\uff1a\uff08\uff21\uff09", "A"),
        ("I'd say 'B'", "B"),
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
        ("Options A, B, and C are wrong; D fits", "D"),
        ("The answer isn't 'A' but 'B'", "B"),
        ("None of A, B or C; it's D", "D"),
        ("It cannot be B or C. A", "A"),
        ("A\u548cB\u90fd\u4e0d\u5bf9, \u9009D", "D"),
        ("Options A, B and D are wrong; C fits", "C"),
        ("Neither A nor B. It is C", "C"),
        ("We eliminate A and B, leaving C.", "C"),
        ("C. I would not choose A or B", "C"),
        ("A can be ruled out. D.", "D"),
        ("It is option A, not B", "A"),
        ("A and not B", "A"),
        ("I prefer A over B", "A"),
        ("I would choose B over option A.", "B"),
        ("B rather than A or C", "B"),
        ("I would not pick A over B", "B"),
        ("It isn't A but B, instead of C", "B"),
        ("The answer is not A, B is right", "B"),
        ("not A or B", ""),
        ("Conclusion: (B). Eliminated: (A), (C), (D).", "B"),  # lm-evaluation-harness#3879
        ("\u4e0d\u662fA\uff0c\u662fB", "B"),
        ("Response A is not better than response B", "AB"),
    ],
)
def test_what_is_denied_is_not_given(said, given):
    assert choices(said) == set(given)


@pytest.mark.parametrize(
    ("said", "given"),
    [
        ("B is better than A.", "B"),
        ("Option B is clearly more accurate than options A and C", "B"),
        ("(B) fits better than (A)", "B"),
        ("Answer A is better supported by the text than answer B.", "A"),
        ("I prefer B to A", "B"),
        ("B is superior to A", "B"),
        ("B beats A", "B"),
        ("Unlike A, B is stated.", "B"),
        ("Compared to A and C, B says more", "B"),
        ("Nothing is better than B", "B"),
        ("A rather than B fits the text.", "A"),
        ("Answer: A\nNeither B nor C fits.", "A"),
        ("B is not clearly better than A", "AB"),
        ("B is older than A", "AB"),  # of contents: which of them is asked for is not known
        ("A is worse than B", "AB"),
        ("I don't think that A is better than B.", "AB"),
        ("It is false that A is more likely than B", "AB"),
        ("A is hardly better than B.", "AB"),
        ("Point A is closer to B.", "AB"),
        ("Option A looks more convincing than B, but is wrong.", "AB"),
        ("Option A is more likely because it leads to C.", "AC"),
        ("It is not A since B is better than C", "B"),
        ("Unlike B, A is wrong.", "B"),
        ("Unlike B, A does not name the king.", "AB"),
    ],
)
def test_what_is_set_below_another_is_not_given(said, given):
    """lm-evaluation-harness#4188 and ds4#321: a distractor that is named beside the answer was one of two answers."""
    assert choices(said) == set(given)


@pytest.mark.parametrize(
    "said",
    [
        "So the answer must be B.",
        "The best choice would be (B).",
        "The answer appears to be **B**.",
        "The answer is clearly B.",
        "The answer is letter B.",
        "Answer - B.",
        "Ans: B.",
        "Conclusion: B.",
        "The correct one is B.",
        "I would therefore choose B.",
        "We select option B.",
        "Let's go with B.",
        "$\\boxed{\\text{B}}$",
        "Option B.",
    ],
)
def test_a_choice_may_be_said_in_other_words(said):
    """antirez/ds4#321, lm-evaluation-harness#2237: letters that explain the answer were answers, too."""
    assert choices(f"{said} Option A says otherwise, and C is about tea.") == {"B"}


@pytest.mark.parametrize(
    ("said", "given"),
    [
        ("The answer must not be A. B", "B"),
        ("The answer could be A or B", "AB"),
        ("If you pick A, you are wrong. B", "AB"),
        ("I choose A or B", "AB"),
        ("I would not choose A. B", "B"),
        ("Option A - 3\nOption B - 4", "AB"),
        ("The answer would be A if it rained, but the answer is B", "B"),
        ("The answer should be A at first. But the answer is B", "B"),
        ("The answer appears to be A, but it is B", "AB"),
        ("At first I would choose A, but B is the correct answer", "B"),
        ("If I choose A, then C fails; the answer is D", "D"),
        ("Should we go with A? No. B", "AB"),
        ("Not correct: A. Answer: C", "C"),
    ],
)
def test_what_only_looks_like_the_answer_is_not_said(said, given):
    assert choices(said) == set(given)


@pytest.mark.parametrize(
    ("said", "given"),
    [
        ("All options except B are wrong.", "B"),
        ("All of the other choices but (B) are incorrect", "B"),
        ("Every answer other than C is false", "C"),
        ("C fits but A is wrong", "C"),
        ("All answers are close but B is wrong. C", "C"),
    ],
)
def test_what_is_left_of_all_is_given(said, given):
    """As "B are wrong" it was denied, and a right answer scored 0."""
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


@pytest.mark.parametrize(
    ("said", "given"),
    [
        ("C. A Tale of Two Cities", "C"),
        ("**C**\n\nA is too broad.", "C"),
        ("B because option A is too broad", "B"),
        ("C - A computer", "C"),
        ("A) 3\nB) 4", "AB"),  # a list of all choices
        ("A: 3, B: 4", "AB"),
        ("(A) 3\n(B) 4\n\n**B**", "B"),  # sglang#23864: what it ends with
        ("A) 3\nB) 4\n\nB or A", "AB"),
        ("A\nB\nC\nD", "ABCD"),
        ("The answers are:\nA\nC", "AC"),
    ],
)
def test_what_an_answer_begins_with_comes_before_letters_of_its_text(said, given):
    assert choices(said) == set(given)


@pytest.mark.parametrize("said", ["9 a.m.", "Ph.D.", "T-shirt", "R&D", "Washington, D.C., is", "DON'T", "e.g. a car"])
def test_letters_of_words_are_no_choices(said):
    assert choices(said) == set()


def test_a_long_list_is_read_at_once():
    """A loop of a base model took hours: two alternatives matched the same A, in each of the list's letters."""
    assert choices("A, " * 30_000) == {"A"}


@given(st.text())
def test_any_text_is_read(text):
    assert all(len(letter) == 1 for letter in choices(text))
