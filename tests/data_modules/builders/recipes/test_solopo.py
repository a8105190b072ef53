"""SoLoPO's recipe step by step, its answers scripted."""

from dataclasses import replace

import pytest
from support.builders import RECORD, bench, drive

from data_modules.builders.generators.requests import Completion, Decoding, RequestTemplate
from data_modules.builders.recipes.base import CHOSEN_CUT_OFF, REJECTED_HOLDS_GOLD, DroppedError
from data_modules.builders.recipes.judges import ContainsGold, Judge, TokenF1
from data_modules.builders.recipes.solopo import SoLoPORecipe
from lit_longpo.errors import InputError


def solopo(**options):
    settings = {"samples": 4, "short_tokens": 40, "long_tokens": 120, "short_distractors": 1}
    return SoLoPORecipe(instruction=RequestTemplate("Say: {question}"), **settings, **options)


def sample(texts):
    return lambda request: texts[int(request.id.rpartition("/")[2])]


def test_solopo_takes_a_right_and_a_wrong_sample():
    texts = ["In Oslo.", "In Rome.", "In Oslo.", "I'm sorry, but no."]
    pair, asked = drive(solopo().steps(RECORD, own := bench()), sample(texts))
    assert (pair.chosen, pair.rejected) == ("In Oslo.", ("In Rome.",))
    assert pair.question == "Say: Where does Ada live?"
    assert all(request.text == f"{pair.short_context}\n\n{pair.question}" for request in asked)
    assert len({request.seed for request in asked}) == 4
    assert pair.long_context[slice(*pair.supporting[0])] == "Ada\nAda lives in Oslo today."
    assert len(pair.long_context) > len(pair.short_context)
    assert own.counts["refusal"] == 1


def test_thoughts_that_the_prompt_opened_are_not_judged():
    """Cut off, they were right where they named the gold answer; they are no wrong answer either."""
    texts = ["Oslo or", "Rome</think>In Oslo.", "Oslo or Rome?", "Oslo?</think>In Rome."]
    pair, _ = drive(solopo().steps(RECORD, bench(opened=True)), sample(texts))
    assert pair.chosen == "Rome</think>In Oslo."
    assert pair.rejected == ("Oslo?</think>In Rome.",)
    with pytest.raises(DroppedError, match="no sample is wrong"):
        drive(solopo(without_right="gold").steps(RECORD, own := bench(opened=True)), sample(["Oslo or"] * 4))
    assert own.counts["thoughts without an answer"] == 4


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (["Rome"] * 4, "no sample is right: `recipe.without_right: gold`"),
        (["Oslo"] * 4, "no sample is wrong"),
        ([""] * 4, "no sample is right"),
    ],
)
def test_solopo_says_why_there_is_no_pair(texts, reason):
    with pytest.raises(DroppedError, match=reason):
        drive(solopo().steps(RECORD, bench()), sample(texts))


def test_solopo_can_fall_back_on_the_gold_answer_and_counts_it():
    pair, _ = drive(solopo(without_right="gold").steps(RECORD, own := bench()), sample(["Rome"] * 4))
    assert (pair.chosen, pair.rejected) == ("Oslo", ("Rome",))
    assert own.counts["chosen is the gold answer, not a sample"] == 1


@pytest.mark.parametrize(
    ("judge", "wrong", "number"),
    [
        (TokenF1(), "It is Oslo in the far north.", 1),
        (TokenF1(), "It is Rome in the far south.", 0),
        (TokenF1("Answer:"), "Oslo? Rome? Answer: Rome", 0),
        (TokenF1("Answer:"), "Rome? Answer: It is Oslo in the far north.", 1),
        (TokenF1(), "<think>Oslo or Rome?</think>In Rome.", 0),
        (ContainsGold("Answer:"), "Oslo? Answer: Rome", 0),
    ],
)
def test_rejected_answers_that_hold_a_gold_one_are_counted(judge, wrong, number):
    """By F1 a longer right answer is a worse one: it was rejected without a word (the paper's judge is a substring)."""
    pair, _ = drive(solopo(judge=judge).steps(RECORD, own := bench()), sample(["Oslo", wrong] * 2))
    assert (pair.chosen, pair.rejected) == ("Oslo", (wrong,))
    assert own.counts[REJECTED_HOLDS_GOLD] == number


class Near(Judge):
    """Rome is nearly right."""

    def score(self, prediction, answers):
        return {"Oslo": 1.0, "Rome": 0.6}[prediction]


def test_a_right_answer_that_came_to_its_end_is_chosen_before_those_cut_off():
    """`fit` ends every answer (trl#1839)."""
    texts = ["In Oslo, where she", "In Oslo.", "In Oslo, which is", "In Rome, where he"]

    def answer(request, ended=(1,)):
        number = int(request.id.rpartition("/")[2])
        return Completion(request.id, texts[number], finished=number in ended)

    for seed in range(8):
        pair, _ = drive(solopo().steps(RECORD, own := replace(bench(), seed=seed)), answer)
        assert (pair.chosen, pair.rejected) == ("In Oslo.", (texts[3],))
        assert own.counts[CHOSEN_CUT_OFF] == 0
    pair, _ = drive(solopo().steps(RECORD, own := bench()), lambda request: answer(request, ()))
    assert pair.chosen.startswith("In Oslo")
    assert own.counts[CHOSEN_CUT_OFF] == 1


def test_solopo_keeps_a_margin():
    with pytest.raises(DroppedError, match="min_margin"):
        drive(solopo(min_margin=0.5, judge=Near()).steps(RECORD, bench()), sample(["Oslo", "Rome", "Oslo", "Rome"]))


def test_solopo_names_its_own_setting_when_passages_are_too_long():
    recipe = SoLoPORecipe(short_tokens=3)
    with pytest.raises(DroppedError, match=r"recipe\.init_args\.short_tokens"):
        drive(recipe.steps(RECORD, bench()), sample(["x"]))


def test_samples_take_the_temperatures_in_turn(caplog):
    texts = ["Oslo", "Rome", "Oslo", "Rome", "Bergen", "Rome"]
    recipe = SoLoPORecipe(samples=6, temperatures=(0.5, 1.0, 1.5), short_tokens=40, long_tokens=120)
    _, asked = drive(recipe.steps(RECORD, bench()), sample(texts))
    assert [request.decoding.temperature for request in asked] == [0.5, 1.0, 1.5] * 2
    assert {request.decoding.max_new_tokens for request in asked} == {recipe.decoding.max_new_tokens}
    SoLoPORecipe(samples=2, temperatures=(0.5, 1.0, 1.5))
    assert "2 samples take the first of the 3 temperatures alone" in caplog.text


@pytest.mark.parametrize("more", [{}, {"temperatures": (0.0, 0.0)}, {"without_right": "gold"}])
def test_samples_that_would_all_be_one_are_refused(more):
    """No sample was wrong, or none right: 32 greedy answers are one (MultiPL-E#40)."""
    with pytest.raises(
        InputError, match=r"expected samples that differ, got temperature 0 for all 8.*temperature: 0.85"
    ):
        SoLoPORecipe(samples=8, decoding=Decoding(0.0), **more)
    SoLoPORecipe(samples=8, decoding=Decoding(0.0), temperatures=(0.0, 0.85))
    SoLoPORecipe(samples=1, decoding=Decoding(0.0), without_right="gold")


def test_the_likeliest_mistake_is_the_one_given_most_often():
    texts = ["Oslo", *["Rome"] * 3, *[f"Place {n}" for n in range(12)]]
    recipe = SoLoPORecipe(samples=16, wrong="likeliest", short_tokens=40, long_tokens=120)
    pair, _ = drive(recipe.steps(RECORD, bench()), sample(texts))
    assert pair.rejected == ("Rome",)


def test_budgets_that_cross_are_refused_at_once():
    """They were found in each record, which failed by itself."""
    with pytest.raises(InputError, match="expected short_tokens <= long_tokens, got 20 and 10; raise `long_tokens`"):
        SoLoPORecipe(short_tokens=20, long_tokens=10)
