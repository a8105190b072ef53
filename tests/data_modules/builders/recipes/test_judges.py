"""Scores of answers against gold ones."""

import pytest

from data_modules.builders.recipes.judges import ContainsGold, TokenF1


@pytest.mark.parametrize(
    ("text", "answers", "expected"),
    [
        ("It was Paris, of course.", ["Paris"], 1.0),
        ("The north.", ["no"], 0.0),
        ("No.", ["no"], 1.0),
        ("paris", ["London", "Paris"], 1.0),
        ("anything", [""], 0.0),
        ("anything", [], 0.0),
        ("\u5317\u4eac\u5e02", ["\u5317\u4eac"], 1.0),
    ],
)
def test_gold_answers_are_looked_for_as_whole_words(text, answers, expected):
    assert ContainsGold().score(text, answers) == expected


def test_only_the_conclusion_counts_if_asked_for():
    text = "Paris or London? Answer: London"
    assert ContainsGold("Answer:").score(text, ["Paris"]) == 0.0
    assert ContainsGold("Answer:").score("Paris", ["Paris"]) == 1.0


def test_token_f1():
    assert TokenF1().score("the red fox", ["red fox"]) == pytest.approx(0.8)
    assert TokenF1().score("", ["red fox"]) == 0.0
