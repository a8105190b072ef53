"""SoLoPO's recipe step by step, its answers scripted."""

import pytest
from support.builders import RECORD, bench, drive

from data_modules.builders.generators.requests import RequestTemplate
from data_modules.builders.recipes.base import DroppedError
from data_modules.builders.recipes.solopo import SoLoPORecipe


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


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (["Rome"] * 4, "no sample is right"),
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


def test_solopo_keeps_a_margin():
    with pytest.raises(DroppedError, match="min_margin"):
        drive(solopo(min_margin=1.5).steps(RECORD, bench()), sample(["Oslo", "Rome", "Oslo", "Rome"]))


def test_solopo_names_its_own_setting_when_passages_are_too_long():
    recipe = SoLoPORecipe(short_tokens=3)
    with pytest.raises(DroppedError, match=r"recipe\.init_args\.short_tokens"):
        drive(recipe.steps(RECORD, bench()), sample(["x"]))
