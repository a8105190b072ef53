import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.metrics import aggregate, score
from evaluation.metrics.longbench_v2 import extract_letter

RIGHT, WRONG, NONE = "The correct answer is (A)", "The correct answer is (B)", "I cannot say"


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("The correct answer is (C).", "C"),
        ("**The correct answer is (C)**", "C"),
        ("The correct answer is **(C)**", "C"),
        ("The correct answer is B. No: The correct answer is (D)", "D"),  # brackets come first anywhere
        ("The correct answer is (A) or The correct answer is (B)", "A"),
        ("The correct answer is An apple", "A"),
        ("The correct answer is (E) ... The correct answer is B", "B"),
        ("The correct answer is: A", None),
        ("The correct answer is  A", None),
        ("The correct answer is\nA", None),
        ("the correct answer is A", None),
        ("The correct answer is a", None),
        ("(A)", None),
        ("", None),
    ],
)
def test_official_extraction(response, letter):
    assert extract_letter(response) == letter
    if letter:
        assert score("longbench_v2", "", response, [letter]) == 1.0


@given(st.text(), st.sampled_from("ABCD"), st.text(alphabet="*", max_size=3))
def test_a_bracketed_answer_is_found_behind_anything_without_one(before, letter, stars):
    before = before.replace("The correct answer is", "")
    assert extract_letter(f"{before} {stars}The correct answer is ({letter}){stars}") == letter


@pytest.mark.parametrize("answers", [[], ["A", "B"], ["E"], ["(A)"]])
def test_the_reference_is_one_letter(answers):
    with pytest.raises(ValueError, match="one letter A to D"):
        score("longbench_v2", "", RIGHT, answers)


def test_one_decimal():
    assert aggregate("longbench_v2", "", [RIGHT, WRONG, NONE], [["A"]] * 3) == 33.3


def test_an_empty_response_leaves_the_denominator():
    assert aggregate("longbench_v2", "", [RIGHT, WRONG, ""], [["A"]] * 3) == 50.0
    assert aggregate("longbench_v2", "", [RIGHT, WRONG, " "], [["A"]] * 3) == 33.3


def test_compensation_is_off_by_default():
    responses, answers = [RIGHT, NONE], [["A"]] * 2
    assert aggregate("longbench_v2", "", responses, answers) == 50.0
    assert aggregate("longbench_v2", "", responses, answers, compensated=True) == 62.5


def test_groups_of_the_official_table():
    table = aggregate(
        "longbench_v2",
        "",
        [RIGHT, WRONG, RIGHT],
        [["A"]] * 3,
        ["short", "short", "medium"],
        difficulties=["easy", "hard", "hard"],
    )
    assert math.isnan(table.pop("Long"))
    assert table == {"Overall": 66.7, "Easy": 100.0, "Hard": 50.0, "Short": 50.0, "Medium": 100.0}
    with pytest.raises(ValueError, match="record\\['length'\\]"):
        aggregate("longbench_v2", "", [RIGHT], [["A"]], ["tiny"])
