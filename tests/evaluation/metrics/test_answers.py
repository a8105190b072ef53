from unicodedata import normalize

import pytest
from torchmetrics.functional.text import squad

from evaluation.metrics import sub_em
from evaluation.metrics.answers import ANSWER_SCORES, best_score

ENGLISH = [
    ("The Eiffel Tower, Paris.", ["eiffel tower"]),
    ("paris", ["Paris", "the city of Paris"]),
    ("It was built in 1889 by G. Eiffel", ["1889", "in 1889"]),
    ("no idea", ["nine crates", "9"]),
    ("nine nine crates", ["nine crates"]),
    ("-31.4", ["3.14"]),  # all the same to SQuAD (inspect_ai#4620)
    ("$3,000", ["3000"]),
]


@pytest.mark.parametrize(("prediction", "answers"), ENGLISH)
def test_english_scores_are_squads(prediction, answers):
    said = {"id": "1", "prediction_text": prediction}
    gold = {"id": "1", "answers": {"text": answers, "answer_start": [0] * len(answers)}}
    official = squad([said], [gold])
    assert 100 * best_score("f1", prediction, answers) == pytest.approx(official["f1"].item(), abs=1e-4)
    assert 100 * best_score("em", prediction, answers) == pytest.approx(official["exact_match"].item())
    assert best_score("sub_em", prediction, answers) == sub_em(prediction, answers)


def test_letters_that_come_apart_in_another_case_stay_composed():
    """Behind the bare accent of \u1e96 an "a" or "an" was a word, and gone as an article."""
    assert best_score("em", "\u1e96a", ["\u1e96an"]) == 0.0
    assert best_score("em", "\u1e96an", ["H\u0331an"]) == 1.0


def test_characters_are_the_tokens_of_chinese_and_japanese_answers():
    assert best_score("em", "「1931年」。", ["1931年"]) == 1.0
    assert best_score("sub_em", "桥 修于 1931 年\uff0c河水浅。", ["1931年"]) == 1.0
    # 1931 | year against built | in | 1931 | year: 2 shared of 2 and 4
    assert best_score("f1", "修于1931年", ["1931年"]) == pytest.approx(2 * 0.5 * 1.0 / 1.5)
    assert best_score("f1", "東京タワー", ["東京"]) == pytest.approx(2 * 0.4 * 1.0 / 1.4)
    assert best_score("f1", "用 GPU 训练", ["GPU训练"]) == pytest.approx(2 * 0.75 * 1.0 / 1.75)


@pytest.mark.parametrize("name", ANSWER_SCORES)
@pytest.mark.parametrize(
    "text", ["\u300a红楼梦\u300b", "\u3008红楼梦\u3009", "红\u00b7楼梦", "红\u30fb楼梦", "红\uff0e楼梦", "\u2022红楼梦"]
)
def test_all_punctuation_is_left_out_of_chinese_and_japanese(name, text):
    """LongBench's own list, which CJK answers were compared by, keeps opening book marks and middle dots (DRCD#6)."""
    assert best_score(name, "红楼梦", [text]) == best_score(name, text, ["红楼梦"]) == 1.0
    assert best_score(name, "\u30fb", ["\u30fb"]) == 1.0
    assert best_score(name, "红楼梦", ["\u30fb"]) == 0.0


@pytest.mark.parametrize("name", ANSWER_SCORES)
@pytest.mark.parametrize("text", ["à la Café", "東京のパブ"])
def test_letters_with_their_accents_apart_are_the_same(name, text):
    """Files of macOS have them so; models write one character."""
    apart = normalize("NFD", text)
    assert apart != text
    assert best_score(name, text, [apart]) == best_score(name, apart, [text]) == 1.0


@pytest.mark.parametrize("name", ANSWER_SCORES)
@pytest.mark.parametrize(
    ("said", "gold"), [("STRASSE", "Straße"), ("Istanbul", "İstanbul"), ("DİYARBAKIR", "diyarbakir")]
)
def test_capitals_that_are_other_letters_are_the_same(name, said, gold):
    """As small letters they differ: ß from ss, and i from one with a second dot (wn#233, argo#46)."""
    assert best_score(name, said, [gold]) == best_score(name, gold, [said]) == 1.0
    assert best_score(name, gold, [normalize("NFD", gold)]) == 1.0


@pytest.mark.parametrize("answer", ["A", "The", "?"])
def test_an_answer_that_normalises_to_nothing_is_not_in_everything(answer):
    assert {name: best_score(name, "some other text", [answer]) for name in ("f1", "em")} == {"f1": 0.0, "em": 0.0}
    assert best_score("sub_em", "xyz", [answer]) == 0.0
    assert {best_score(name, f" {answer.lower()}", [answer]) for name in ANSWER_SCORES} == {1.0}


def test_the_choice_a_is_a_word_of_the_response_not_a_letter_in_it():
    """As characters it was in nearly every response, and "A." was another answer than "A" (UltraRAG#509, helm#2298)."""
    assert {best_score(name, "B, that is what they say", ["A"]) for name in ANSWER_SCORES} == {0.0}
    assert {best_score(name, said, ["A"]) for name in ANSWER_SCORES for said in ("A.", "(a)", "A")} == {1.0}
    assert {best_score(name, "A", [said]) for name in ANSWER_SCORES for said in ("A.", "(a)")} == {1.0}
    assert best_score("sub_em", "It is A, not B.", ["A"]) == best_score("sub_em", "Is it?", ["?"]) == 1.0
    assert best_score("f1", "It is A, not B.", ["A"]) == pytest.approx(2 * 0.2 * 1.0 / 1.2)


@pytest.mark.parametrize("name", ANSWER_SCORES)
@pytest.mark.parametrize(
    ("said", "gold"),
    [
        ("Rubik\u2019s \u201ccube\u201d", 'Rubik\'s "cube"'),  # tool-eval-bench#133
        ("1914\u20131918", "1914-1918"),
        ("Os\u200blo", "Oslo"),  # raid#177
        ("\u22125 \u2033", '-5 "'),
        ("\uff12\uff10\uff12\uff10", "2020"),
        ("e\ufb03cient \ufb02oor", "efficient floor"),  # pypdf#2046
        ("\u6e05\u671d\uff12\uff10\u5e74", "\u6e05\u671d20\u5e74"),
        ("O\u00b4Brien", "O'Brien"),
        ("H\u2082O", "H2O"),  # obsidian-another-quick-switcher#131
        ("1\u00bd cups", "1 1/2 cups"),  # inspect_ai#897
        ("3 \u00d7 10\u2078", "3 \u00d7 10^8"),
        ("10\u207b\u00b3 m", "10^-3 m"),
        ("Louis \u2169\u2163", "Louis XIV"),  # tesseract#1852
        ("\u0661\u0669\u0664\u0667", "1947"),
        ("\u0e1b\u0e35 \u0e52\u0e55\u0e56\u0e50", "\u0e1b\u0e35 2560"),
        ("\uff84\uff73\uff77\uff6e\uff73", "\u30c8\u30a6\u30ad\u30e7\u30a6"),
    ],
)
def test_typographic_marks_are_the_ascii_ones(name, said, gold):
    """SQuAD's script keeps them: "Rubik\u2019s" was no answer where "Rubik's" is right, nor the other way round."""
    assert best_score(name, said, [gold]) == best_score(name, gold, [said]) == 1.0


@pytest.mark.parametrize("name", ANSWER_SCORES)
@pytest.mark.parametrize(
    ("said", "gold"),
    [
        ("\u0926\u093f\u0932\u094d\u0932\u0940\u0964", "\u0926\u093f\u0932\u094d\u0932\u0940"),  # tatoeba2#1596
        ("\u0627\u0644\u0642\u0627\u0647\u0631\u0629\u060c", "\u0627\u0644\u0642\u0627\u0647\u0631\u0629"),
        ("\u00ab\u041c\u043e\u0441\u043a\u0432\u0430\u00bb", "\u041c\u043e\u0441\u043a\u0432\u0430"),
        ("\u00ab Paris \u00bb", "Paris"),
        ("\u00bfMadrid?", "Madrid"),
        ("\u0535\u0580\u0587\u0561\u0576\u0589", "\u0535\u0580\u0587\u0561\u0576"),
        ("\u05e6\u05d4\u05f4\u05dc", '\u05e6\u05d4"\u05dc'),
    ],
)
def test_punctuation_of_every_script_counts_as_little_as_that_of_ascii(name, said, gold):
    """A right answer that ended in its own script's full stop had an F1 of 0."""
    assert best_score(name, said, [gold]) == best_score(name, gold, [said]) == 1.0


@pytest.mark.parametrize("name", ANSWER_SCORES)
@pytest.mark.parametrize(
    ("said", "gold"),
    [("\u00a1", "\u00bf"), ("It is a comma, I think", "\u00bf"), (",", "\u060c"), ("\uff0c", "\u3002")],
)
def test_one_mark_is_not_another(name, said, gold):
    """Any comma was the inverted question mark that was asked for."""
    assert best_score(name, said, [gold]) == 0.0
    assert best_score(name, gold, [gold]) == 1.0


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ("The answer is B because a car moves.", "B"),  # lm-evaluation-harness#4188
        ("I would pick (B), as I think", "B"),
        ("The answer is not A. It is C.", "C"),
        ("a", "A"),
        ("A or B", "AB"),
        ("Cars", ""),
    ],
)
def test_sub_em_takes_one_letter_for_a_choice(said, right):
    """An article was the choice A, and a letter of any word the choice C."""
    assert [letter for letter in "ABCI" if best_score("sub_em", said, [letter])] == list(right)


def test_without_answers_nothing_is_right():
    assert best_score("sub_em", "text", []) == 0.0
