import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.metrics import aggregate, score
from evaluation.metrics.longbench import TASKS, code_similarity, number_share, task_name


def longbench(task, prediction, *answers, **rest):
    return score("longbench", task, prediction, answers, **rest)


def test_the_best_answer_counts():
    assert longbench("hotpotqa", "Bob Dylan", "Tom Petty", "Bob Dylan") == 1.0
    assert longbench("hotpotqa", "Bob Dylan") == 0.0


@pytest.mark.parametrize("task", ["triviaqa", "samsum"])
def test_first_line_of_four_tasks(task):
    assert longbench(task, "\n\nfifty five\nsixty", "fifty five") == pytest.approx(1.0, abs=1e-7)
    assert longbench(task, " \nfifty five", "fifty five") == 0.0  # a space is a first line of its own
    assert longbench("hotpotqa", "fifty\nfive", "fifty five") == 1.0  # no other task is cut


@pytest.mark.parametrize(
    ("task", "right", "wrong"), [("trec", "Individual", "Date"), ("lsht", "\u4f53\u80b2", "\u6559\u80b2")]
)
def test_first_line_of_classifications(task, right, wrong):
    classes = [right, wrong]
    assert longbench(task, f"\n{right}\n{wrong}", right, all_classes=classes) == 1.0
    assert longbench(task, f"{right} {wrong}", right, all_classes=classes) == 0.5


def test_classification_skips_the_name_after_a_removed_one():
    """Found: a, ab, abc. Removing "a" shifts the list under the walk, so "ab" is never looked at."""
    classes = ["a", "ab", "abc"]
    assert longbench("trec", "abc", "abc", all_classes=classes) == 0.5  # struck off properly it would be 1
    assert longbench("trec", "ab", "abc", all_classes=classes) == 0.0


def test_classification_needs_class_names():
    with pytest.raises(ValueError, match="all_classes=record"):
        longbench("lsht", "x", "x")


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [("3", 1.0), ("3 of 30", 0.5), ("03", 0.0), ("3.3", 1.0), ("", 0.0), ("three", 0.0), ("\uff13 3", 0.5)],
)
def test_numbers_are_compared_as_text(prediction, expected):
    assert longbench("passage_count", prediction, "3") == expected


def test_full_width_digits_are_digits():
    assert number_share("\uff13", "\uff13") == 1.0


def test_retrieval_takes_the_number_behind_the_label():
    assert longbench("passage_retrieval_en", "It is 19, not 2", "Paragraph 19") == 0.5
    assert longbench("passage_retrieval_zh", "\u6bb5\u843d5", "\u6bb5\u843d5") == 1.0
    with pytest.raises(ValueError, match="Paragraph 7"):
        longbench("passage_retrieval_en", "19", "19")


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ("\n# comment\nreturn x\nmore", 1.0),
        ("```python\nreturn x", 1.0),
        ("x = 1 // 2\nreturn x", 1.0),
        (" \nreturn x", 0.22),  # white space is the first line; one of 1 + 8 characters is shared
        ("# only\n# comments", 0.0),
    ],
)
def test_code_takes_the_first_line_of_code(prediction, expected):
    assert longbench("lcc", prediction, "return x") == expected


def test_code_similarity_is_difflibs_whole_percent():
    """The common subsequence "ie" of tide and diet gives indel ratios (python-Levenshtein) 0.5 both ways."""
    assert longbench("lcc", "tide", "diet") == 0.25
    assert longbench("lcc", "diet", "tide") == 0.5
    assert longbench("lcc", "abc", "abd") == 0.67  # two thirds in whole percent
    assert longbench("lcc", "return a + b", "return a - b") == 0.92


def test_popular_characters_of_long_lines_are_skipped():
    line = "ab" * 150
    assert code_similarity("c" + line, line) == 0.0  # without difflib's heuristic it would be 1.0


def test_empty_code_equals_an_empty_answer():
    assert code_similarity("# nothing", "") == 1.0


def test_chinese_full_stops_end_no_sentence():
    """Two sentences in swapped order: full marks only if they were split."""
    first, second = "\u4eca\u5929\u4e0b\u96e8", "\u6211\u4eec\u5403\u996d"
    swapped = longbench("vcsum", f"{first}\u3002{second}", f"{second}\u3002{first}")
    assert 0.0 < swapped < 0.9
    assert longbench("vcsum", f"{first}.{second}", f"{second}.{first}") == pytest.approx(1.0, abs=1e-7)


def test_chinese_answers_are_segmented():
    assert longbench("multifieldqa_zh", "\u4e2d\u56fd\u4eba\u6c11", "\u4e2d\u56fd") == pytest.approx(2 / 3)
    assert longbench("dureader", "\u4e2d\u56fd\u4eba\u6c11", "\u4e2d\u56fd") == pytest.approx(2 / 3, abs=1e-7)
    assert longbench("qasper", "\u4e2d\u56fd\u4eba\u6c11", "\u4e2d\u56fd") == 0.0


def test_chinese_stop_words_count():
    """LV-Eval's list has "of"; without it the score would be 1."""
    assert longbench("multifieldqa_zh", "\u7684 \u5317\u4eac", "\u5317\u4eac") == pytest.approx(2 / 3)


def test_longbench_e_scores_like_its_task():
    assert longbench("hotpotqa_e", "Oslo", "oslo") == 1.0
    with pytest.raises(ValueError, match="did you mean 'hotpotqa'"):
        task_name("hotpotqq")


def test_a_file_is_rounded_to_two_decimals():
    assert aggregate("longbench", "hotpotqa", ["x", "y", "y"], [["x"]] * 3) == 33.33


def test_buckets_of_longbench_e():
    lengths = [3999, 4000, 7999, 8000]
    scores = aggregate("longbench", "hotpotqa_e", ["x", "x", "y", "y"], [["x"]] * 4, lengths)
    assert scores == {"0-4k": 100.0, "4-8k": 50.0, "8k+": 0.0}
    only_short = aggregate("longbench", "hotpotqa", ["x"], [["x"]], [1])
    assert math.isnan(only_short["8k+"])


def test_the_last_records_class_names_hold_for_the_file():
    """With its own names the first record would score 1/2."""
    rows = [["a", "b"], ["a"]]
    assert aggregate("longbench", "trec", ["a b", "a"], [["a"], ["a"]], all_classes=rows) == 100.0
    assert aggregate("longbench", "trec", ["a b"], [["a"]], all_classes=[["a"]]) == 100.0  # one record


@given(st.sampled_from(sorted(set(TASKS) - {"passage_retrieval_en", "passage_retrieval_zh"})), st.text(), st.text())
@settings(deadline=None)  # the first call reads a dictionary
def test_scores_stay_between_zero_and_one(task, prediction, answer):
    assert 0.0 <= longbench(task, prediction, answer, all_classes=["a", "b"]) <= 1.0
