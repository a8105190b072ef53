import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.official_data import official

from evaluation.metrics import aggregate, score
from evaluation.metrics.infinitebench import TASKS, _rouge_scorer

SLOW = "longbook_sum_eng"  # importing rouge_score, and with it nltk, takes seconds
FAST = [task for task in TASKS if task != SLOW]
CHOICE = ["Walking Georgie", "A"]


@pytest.mark.parametrize(
    ("task", "prediction", "references", "expected"),
    [
        ("passkey", "The pass key is 71432.", "71432", 1.0),
        ("passkey", "1. 71432", "71432", 0.0),  # the first run of digits counts
        ("passkey", "71432", 71432, 0.0),  # compared as text
        ("number_string", "-300", ["300", "1"], 1.0),
        ("kv_retrieval", '{"value": "c14c-b8ba"}', "c14c-b8ba", 1.0),
        ("kv_retrieval", "c14c-b8ba", ["c14c-b8ba"], 0.0),  # a list is never a word
        ("longdialogue_qa_eng", 'It is "Ace".', ["ACE", "ROTHSTEIN"], 1.0),
        ("longdialogue_qa_eng", "Rothstein", ["ACE", "ROTHSTEIN"], 0.0),
        ("longbook_qa_eng", "New York City", ["York", "New York"], 0.8),
        ("longbook_qa_eng", "New York City", [], 0.0),
        ("longbook_qa_chn", "\u300a\u96ea\u5c71\u300b", ["\u96ea\u5c71"], 0.8),  # the opening mark stays
        ("longbook_choice_eng", "Answer: B", CHOICE, 1.0),  # begins with A
        ("longbook_choice_eng", "the answer is:A", CHOICE, 0.0),  # one character is skipped
        ("longbook_choice_eng", "the  answer  is  A", CHOICE, 1.0),
        ("longbook_choice_eng", "I pick AB", CHOICE, 0.0),  # a part of ABCD ends the search
        ("longbook_choice_eng", "", CHOICE, 0.0),
        ("longbook_choice_eng", "Walking Georgie", CHOICE, 1.0),  # the whole prediction
        ("longbook_choice_eng", "I pick A", CHOICE, 1.0),  # the first word that is a letter
        ("code_debug", "C: it fails", ["cmd", "C"], 1.0),
        ("code_debug", "C", ["cmd", "C"], 0.0),
        ("code_debug", "the function is: `cmd`", ["cmd", "C"], 1.0),
        ("code_debug", "the answer is:", ["cmd", "C"], 0.0),
        ("code_debug", "the answer is: find", ["cmd", "C"], 0.0),
        ("code_run", "func_12(3):15.", 15, 1.0),
        ("code_run", "15,", 15, 0.0),
        ("math_find", "it is 88%", [88], 1.0),
        ("math_find", "88.0", 88, 0.0),  # the official function raises
        ("math_find", "49.5", 49.5, 1.0),
        ("math_calc", "[4, 014, 7, 2]", [4, 14, 6, 2], 0.5),
        pytest.param("longbook_sum_eng", "He DIES.", ["x", "He dies."], 1.0, marks=pytest.mark.slow),
    ],
)
def test_values_by_hand(task, prediction, references, expected):
    assert score("infinitebench", task, prediction, references) == pytest.approx(expected)


@pytest.mark.slow
def test_no_library_sets_up_the_log(monkeypatch):
    """`rouge_score` logs that it was given no tokenizer, through a library that then prints every message of ours."""
    pytest.importorskip("rouge_score")
    monkeypatch.setattr("absl.logging.info", lambda *_: pytest.fail("logged"))
    _rouge_scorer.cache_clear()
    assert score("infinitebench", SLOW, "He DIES.\nShe stays.", ["x", "He dies."]) == pytest.approx(2 / 3)


def test_gpt4_loses_its_first_number():
    assert score("infinitebench", "math_calc", "[4, 14]", [4, 14], model="gpt4") == 0.0
    assert score("infinitebench", "math_calc", "[1, 4, 14]", [4, 14], model="gpt4") == 1.0


@given(
    st.text(alphabet="ABCD answer is:\n.optn1 09", max_size=40),
    st.sampled_from([task for task in TASKS if task != SLOW]),
)
def test_any_prediction_has_a_score(prediction, task):
    references = {"code_run": 9, "math_find": 1.5, "math_calc": [1, 0]}.get(task, ["is", "B"])
    assert 0.0 <= score("infinitebench", task, prediction, references) <= 1.0


def test_numbers_of_any_length_are_read():
    assert score("infinitebench", "math_calc", "9" * 5000, [4]) == 0.0
    assert score("infinitebench", "math_find", "9" * 5000, 4) == 0.0


def test_a_file_is_a_plain_mean():
    assert aggregate("infinitebench", "passkey", ["1", "2", "3"], ["1", "1", "3"]) == 66.67


@pytest.mark.parametrize(
    ("task", "references", "message"),
    [
        ("longbook_qa", ["x"], "did you mean 'longbook_qa_eng'"),
        ("longbook_choice_eng", ["text"], r"expected the right choice as \[text, letter A to D\], got \['text'\]"),
        ("math_find", "88", "expected a number as Math.Find's answer, got '88'"),
        ("math_calc", "88", "expected the list of Math.Calc's values"),
        ("longbook_qa_eng", [1], "expected a list of texts"),
        ("passkey", [], "got an empty list"),
    ],
)
def test_what_is_no_reference_is_refused(task, references, message):
    with pytest.raises((ValueError, TypeError), match=message):
        score("infinitebench", task, "x", references)


@pytest.mark.parametrize("task", [pytest.param(task, marks=[pytest.mark.slow] * (task == SLOW)) for task in TASKS])
def test_every_official_score(task):
    """383 predictions in all, 255 of them published ones of seven models; where the official function raises, 0."""
    lines = (official("infinitebench") / "oracle.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["task"] == task]
    found = [score("infinitebench", task, row["prediction"], row["references"], model=row.get("model")) for row in rows]
    assert found == pytest.approx([row["expected"] or 0.0 for row in rows], abs=1e-12)
    assert rows
