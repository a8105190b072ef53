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
        ("\u54c8\u5229\u6ce2\u7279", ["\u54c8\u5229\u00b7\u6ce2\u7279"], 1.0),
        ("\u092f\u0939 \u092a\u093e\u0928\u0940 \u0939\u0948\u0964", ["\u092a\u093e\u0928\u0940"], 1.0),
        ("\u092f\u0939 \u092a\u093e\u0928\u093e \u0939\u0948\u0964", ["\u092a\u093e\u0928\u0940"], 0.0),
        (
            "\u0e2d\u0e22\u0e39\u0e48\u0e17\u0e35\u0e48\u0e01\u0e23\u0e38\u0e07\u0e40\u0e17\u0e1e",
            ["\u0e01\u0e23\u0e38\u0e07\u0e40\u0e17\u0e1e"],
            1.0,
        ),
        ("\u0e17\u0e35", ["\u0e17\u0e39"], 0.0),
    ],
)
def test_gold_answers_are_looked_for_as_whole_words(text, answers, expected):
    assert ContainsGold().score(text, answers) == expected


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("The answer is B because a car moves.", "B"),  # lm-evaluation-harness#4188
        ("I would pick B, a safe choice.", "B"),
        ("The answer is B. Note that A is a common distractor.", "B"),  # omlx#3668
        ("The answer is C because I computed the integral.", "C"),
        ("ANSWER: **A**", "A"),  # inspect_ai#5055
        ("Answer: $A$", "A"),
        ("(A)", "A"),
        ("A is right. I think so.", "A"),
        ("A since the text says so", "A"),
        ("the answer is b because a car moves", "B"),
        ("a", "A"),
        ("a) a car", "A"),
        ("**D.** I'm sure", "D"),
        ("\\boxed{D}, as A is no prime", "D"),
        ("A", "A."),
        ("\u7b54\u6848\uff1aB", "B"),
    ],
)
def test_a_gold_answer_of_one_letter_is_a_choice(answer, gold):
    """An article was the choice A, and what was named beside the answer was right as well."""
    right = [letter for letter in "ABCDI" if ContainsGold().score(answer, [letter])]
    assert right == [gold[0]]
    assert ContainsGold().score(answer, [gold]) == 1.0


@pytest.mark.parametrize(
    ("gold", "answer", "is_right"),
    [
        ("1,000", "It seats 1000 people.", True),
        ("12,345,678", "12345678", True),
        ("1000", "1,000", True),
        ("5", "$5.00.", True),
        ("3.5 million", "about 3.5 million", True),
        ("2020", "on 12.5.2020", True),
        ("1", "rooms 1,2 and 3", True),
        ("4", "4.Second, the mill", True),
        ("5 million", "3.5 million", False),
        ("2", "2.5", False),
        ("000", "1,000", False),
        ("35", "3.5", False),
        ("Python 3.10", "It is Python 3.1.", False),
        ("1.000", "1 Euro", False),  # a thousand in German
        ("1.000", "1.000 Euro", True),
        ("5\u4e07", "3.5\u4e07", False),
        ("5\u4e07", "35\u4e07", False),
        ("5\u4e07", "\u5171 5 \u4e07\u5143", True),
        ("5\u4e07", "2020\u5e745\u4e07", True),
        ("5\u6708", "5\u67083\u65e5", True),
        ("\u7b2c1", "\u7b2c12", False),
        ("1000", "1'000", True),  # konfuzio-sdk#338
        ("1000", "1\u2019000", True),
        ("1000", "1\u202f000", True),
        ("1", "1'000", False),
        ("C", "C++", False),
    ],
)
def test_a_number_is_one_word(gold, answer, is_right):
    """Right answers were rejected, and wrong ones chosen, where the gold answer is a number."""
    assert ContainsGold().score(answer, [gold]) == is_right


@pytest.mark.parametrize("hidden", ["\u200b", "\u00ad", "\u2060"])
def test_what_is_not_drawn_hides_no_answer(hidden):
    """raid#177: a zero-width space in a word made it two."""
    assert (
        ContainsGold().score(f"In Os{hidden}lo.", ["Oslo"])
        == ContainsGold().score("In Oslo.", [f"Os{hidden}lo"])
        == 1.0
    )


def test_only_the_conclusion_counts_if_asked_for():
    text = "Paris or London? Answer: London"
    assert ContainsGold("Answer:").score(text, ["Paris"]) == 0.0
    assert ContainsGold("Answer:").score("Paris", ["Paris"]) == 1.0
    for written in ("**Answer**: London", "ANSWER : London", "**Answer:** London", "answer: Rome\nAnswer: London"):
        verdicts = [ContainsGold("Answer:").score(f"Paris, or? {written}", [city]) for city in ("Paris", "London")]
        assert verdicts == [0.0, 1.0]


def test_token_f1():
    assert TokenF1().score("3.5", ["3.6"]) == 0.0
    assert TokenF1().score("the red fox", ["red fox"]) == pytest.approx(0.8)
    assert TokenF1().score("", ["red fox"]) == 0.0
    assert TokenF1().score("\u5317\u4eac\u5e02\u3002", ["\u5317\u4eac"]) == pytest.approx(0.8)


def test_candidates_in_thoughts_are_no_answer():
    text = "<think>Oslo or Rome?</think>Rome"
    assert [ContainsGold().score(text, [city]) for city in ("Oslo", "Rome")] == [0, 1]
    assert [TokenF1().score(text, [city]) for city in ("Oslo", "Rome")] == [0, 1]
    assert ContainsGold().score("<think>Oslo, as she", ["Oslo"]) == 0
