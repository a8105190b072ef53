import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.metrics import aggregate, score
from evaluation.metrics.lveval import CHINESE_STOP_WORDS, ENGLISH_STOP_WORDS, METRICS, dataset_name

ENGLISH_SET, CHINESE_SET = "loogle_SD_mixup_16k", "cmrc_mixup_16k"


def lveval(dataset, prediction, *answers, keywords=None):
    return score("lveval", dataset, prediction, answers, answer_keywords=keywords)


def test_only_the_first_answer_counts():
    assert lveval(ENGLISH_SET, "oslo", "bergen", "oslo") == 0.0  # the best of all would be 1
    assert lveval(ENGLISH_SET, "bergen", "bergen", "oslo") == 1.0
    assert lveval(ENGLISH_SET, "bergen") == 0.0


def test_the_gate_needs_a_fifth_of_the_keywords():
    assert lveval(ENGLISH_SET, "one x", "x", keywords="one two three four five") == pytest.approx(2 / 3)  # exactly 0.2
    assert lveval(ENGLISH_SET, "one x", "x", keywords="one two three four five six") == 0.0
    assert lveval(ENGLISH_SET, "one x", "x") == pytest.approx(2 / 3)  # no keywords, no gate
    assert lveval(ENGLISH_SET, "one x", "x", keywords="") == pytest.approx(2 / 3)


def test_found_stop_words_do_not_open_the_gate_but_are_divided_by():
    assert lveval(ENGLISH_SET, "was x", "x", keywords="was") == 0.0
    four = "one was with from by at"  # 1 of 6; without stop words it would be 1 of 1
    assert lveval(ENGLISH_SET, "one x", "x", keywords=four) == 0.0


def test_stop_words_stay_in_the_f1():
    """The paper's text would drop "was": then the score would be 1."""
    assert lveval(ENGLISH_SET, "was oslo", "oslo", keywords="oslo") == pytest.approx(2 / 3)


@pytest.mark.parametrize("keywords", ["the", "!!", " a an "])
def test_keywords_that_normalise_to_nothing_are_no_gate(keywords):
    assert lveval(ENGLISH_SET, "one x", "x", keywords=keywords) == pytest.approx(2 / 3)


BEIJING, SHANGHAI, APPLE = "\u5317\u4eac", "\u4e0a\u6d77", "\u82f9\u679c"


def test_the_chinese_gate_needs_two_fifths():
    five = " ".join([BEIJING, SHANGHAI, APPLE, "\u9999\u8549", "\u897f\u74dc"])
    assert lveval(CHINESE_SET, f"{BEIJING} {SHANGHAI}", BEIJING, keywords=five) == pytest.approx(2 / 3)  # exactly 0.4
    assert lveval(CHINESE_SET, BEIJING, BEIJING, keywords=five) == 0.0  # 0.2 would do in English


OF, AND = "\u7684", "\u548c"  # stop words


def test_found_chinese_stop_words_do_not_open_the_gate_but_are_divided_by():
    assert lveval(CHINESE_SET, f"{OF} {APPLE}", APPLE, keywords=OF) == 0.0
    three = f"{BEIJING} {OF} {AND}"  # 1 of 3; without stop words it would be 1 of 1
    assert lveval(CHINESE_SET, f"{BEIJING} {APPLE}", APPLE, keywords=three) == 0.0


def test_chinese_stop_words_stay_in_the_f1():
    assert lveval(CHINESE_SET, f"{OF} {APPLE}", APPLE, keywords=APPLE) == pytest.approx(2 / 3)


@pytest.mark.parametrize("keywords", [None, ""])
def test_without_chinese_keywords_the_answer_is_the_gate(keywords):
    answer = " ".join([BEIJING, SHANGHAI, APPLE])
    assert lveval(CHINESE_SET, BEIJING, answer, keywords=keywords) == 0.0  # ungated F1 would be 1/2
    assert lveval("factrecall_zh", BEIJING, answer, keywords=keywords) == pytest.approx(0.5)


def test_chinese_keywords_that_normalise_to_nothing_are_no_gate():
    answer = " ".join([BEIJING, SHANGHAI, APPLE])
    assert lveval(CHINESE_SET, BEIJING, answer, keywords="\uff01\uff01") == pytest.approx(0.5)
    assert lveval(CHINESE_SET, BEIJING, "\uff01\uff01") == 0.0


def test_factrecall_has_no_gate():
    assert lveval("factrecall_en_256k", "beethoven", "beethoven", keywords="something else entirely") == 1.0


def test_dureader_drops_stop_words_before_rouge():
    text = f"{BEIJING}\u7684{APPLE}"
    assert lveval("dureader_mixup", text, f"{BEIJING}{APPLE}") == pytest.approx(1.0, abs=1e-7)
    assert score("longbench", "dureader", text, [f"{BEIJING}{APPLE}"]) < 0.9  # LongBench keeps them
    assert lveval("dureader_mixup", text, text, keywords="unrelated") == pytest.approx(1.0, abs=1e-7)  # no gate


def test_dureader_is_segmented_twice():
    """The second pass splits the word for "this matter"; once segmented, "this" would not be found."""
    assert (
        lveval("dureader_mixup", "\u6211\u8ba4\u4e3a\u8fd9\u4e8b\u548c\u4ea4\u8b66\u6ca1\u6709\u5173\u7cfb", "\u8fd9")
        > 0.0
    )


def test_the_lists_are_complete():
    assert len(ENGLISH_STOP_WORDS) == 38
    assert len(CHINESE_STOP_WORDS) == 85
    assert {"does", "because"} <= ENGLISH_STOP_WORDS
    assert {"\u2030", "\u00d7", "c"} <= CHINESE_STOP_WORDS


def test_names_with_and_without_a_level():
    assert {dataset_name(name + level) for name in METRICS for level in ("", "_16k", "_256k")} == set(METRICS)
    with pytest.raises(ValueError, match="did you mean 'cmrc_mixup'"):
        dataset_name("cmrc_mixed_16k")


def test_a_file_is_rounded_to_two_decimals():
    keywords = ["x", None, "y"]
    assert aggregate("lveval", ENGLISH_SET, ["x"] * 3, [["x"]] * 3, answer_keywords=keywords) == 66.67
    with pytest.raises(ValueError, match="every <dataset>_<level>"):
        aggregate("lveval", ENGLISH_SET, ["x"], [["x"]], [16000])


@given(st.sampled_from(sorted(METRICS)), st.text(), st.text(), st.none() | st.text())
@settings(deadline=None)  # the first call reads a dictionary
def test_scores_stay_between_zero_and_one(dataset, prediction, answer, keywords):
    assert 0.0 <= lveval(dataset, prediction, answer, keywords=keywords) <= 1.0
