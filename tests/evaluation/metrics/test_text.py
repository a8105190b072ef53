import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.metrics import normalize_answer, sub_em
from evaluation.metrics.text import chinese_tokens, english_tokens, normalize_chinese, token_f1

CASES = [
    ("Paris", "It is Paris, France.", 1.0),
    ("The Beatles", "beatles", 1.0),
    ("U.S.", "us", 1.0),
    ("no", "north", 1.0),
    ("New York", "York New", 0.0),
    ("the", "anything", 1.0),
    ("12,000", "12000", 1.0),
    ("twelve", "12", 0.0),
    ("", "", 1.0),
    ("Oslo", "", 0.0),
]


@pytest.mark.parametrize(("answer", "prediction", "score"), CASES)
def test_known_cases(answer, prediction, score):
    assert sub_em(prediction, [answer]) == score


@given(st.text(max_size=30), st.text(max_size=10), st.text(max_size=10))
def test_an_answer_set_off_by_spaces_is_always_found(answer, before, after):
    assert sub_em(f"{before} {answer} {after}", [answer]) == 1.0


@given(st.text(max_size=40))
def test_normalising_twice_changes_nothing(text):
    once = normalize_answer(text)
    assert normalize_answer(once) == once or "the" in once or "a" in once.split() or "an" in once.split()


@given(st.text(max_size=20), st.lists(st.text(max_size=8), max_size=4))
def test_the_best_answer_counts(prediction, answers):
    assert sub_em(prediction, answers) == max([sub_em(prediction, [answer]) for answer in answers], default=0.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("well-known", "wellknown"),  # joined, where replacing by a space would give two words
        ("A.N. other", "other"),  # punctuation goes first and leaves an article; else "an other"
        ("the-end", "theend"),
        ("caf\u00e9 \u2014 a  B", "caf\u00e9 \u2014 b"),  # only ASCII marks are dropped
    ],
)
def test_normalising_drops_punctuation_then_articles(text, expected):
    assert normalize_answer(text) == expected


def test_chinese_marks_with_the_benchmarks_gaps():
    assert normalize_chinese("\u201c\u4e66\u300b\u3002 \uff21b\uff01") == "\u4e66\uff41b"
    assert normalize_chinese("\u300a\u00b7\uff0e") == "\u300a\u00b7\uff0e"  # a fuller list would drop these


def test_chinese_text_is_segmented_before_it_is_normalised():
    text = "\u5317\u4eac-\u5927\u5b66"  # without the hyphen "Peking University" is one word
    assert chinese_tokens(text) == ["\u5317\u4eac", "\u5927\u5b66"]
    assert chinese_tokens(normalize_chinese(text)) == ["\u5317\u4eac\u5927\u5b66"]


def test_token_f1_counts_repeats_and_has_no_special_cases():
    assert token_f1(english_tokens("x x y"), english_tokens("x x z")) == pytest.approx(2 / 3)  # sets would give 0.5
    assert token_f1([], []) == 0.0
    assert token_f1(english_tokens("yes it is"), english_tokens("yes")) == 0.5  # HotpotQA's script would give 0


words = st.lists(st.sampled_from("abcd"), max_size=6)


@given(words, words)
def test_token_f1_is_symmetric_and_one_only_for_equal_bags(first, second):
    score = token_f1(first, second)
    assert score == pytest.approx(token_f1(second, first))
    assert (score == pytest.approx(1.0)) == (sorted(first) == sorted(second) and bool(first))
