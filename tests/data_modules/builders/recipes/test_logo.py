"""LOGO's recipe step by step, its answers scripted."""

import pytest
from support.builders import RECORD, bench, drive

from data_modules.builders.generators.requests import Completion, RequestTemplate
from data_modules.builders.recipes.base import CHOSEN_CUT_OFF, DroppedError
from data_modules.builders.recipes.chunk_scores import ChunkScorer
from data_modules.builders.recipes.logo import LOGORecipe
from data_modules.builders.recipes.questions import Cloze
from data_modules.builders.sources.base import Document
from data_modules.builders.sources.chunking import Chunking


def logo(**options):
    settings = {
        "chunking": Chunking(14, balance=False),
        "num_critical": 1,
        "min_critical_score": 1,
        "context_chunks": 4,
    }
    return LOGORecipe(**{**settings, "attempts": 2, **options})


def by_context(request):
    return f"from {request.id.split('/')[1]}"


def test_logo_answers_from_critical_irrelevant_and_mixed_chunks():
    pair, asked = drive(logo(num_irrelevant=2, num_mixed=1).steps(RECORD, bench()), by_context)
    assert pair.chosen == "from answer0"
    assert pair.rejected == ("from answer1", "from answer2", "from answer3")
    assert "Oslo" in pair.short_context
    assert "Oslo" in pair.long_context
    assert all("Oslo" in pair.long_context[slice(*span)] for span in pair.supporting)
    contexts = {request.id.split("/")[1]: request.text for request in asked}
    assert "Oslo" not in contexts["answer1"] + contexts["answer2"]  # really irrelevant
    assert "Oslo" in contexts["answer3"]
    assert "Nothing" in contexts["answer3"]
    assert len(pair.long_context.split("\n\n")) == 4


def test_logo_takes_another_attempt_when_rejected_equals_chosen():
    def answer(request):
        _, name, attempt = request.id.split("/")
        return "same" if attempt == "0" else f"other {name}"

    pair, _ = drive(logo().steps(RECORD, bench()), answer)
    assert pair.chosen == "same"
    assert pair.rejected == ("other answer1", "other answer2")
    with pytest.raises(DroppedError, match="always equal"):
        drive(logo().steps(RECORD, bench()), lambda request: "same")
    with pytest.raises(DroppedError, match="always equal"):  # camel-ai/owl#592
        drive(logo().steps(RECORD, bench()), lambda request: f"<think>{request.id}</think>The  same")
    with pytest.raises(DroppedError, match="no usable chosen"):
        drive(logo().steps(RECORD, bench()), lambda request: "")


def test_an_attempt_that_came_to_its_end_is_chosen_before_those_cut_off():
    def answer(request, ended=("1", "2")):
        _, name, attempt = request.id.split("/")
        return Completion(request.id, f"{name} {attempt}", finished=attempt in ended)

    pair, _ = drive(logo().steps(RECORD, own := bench()), answer)
    assert (pair.chosen, pair.rejected) == ("answer0 1", ("answer1 0", "answer2 0"))
    assert own.counts[CHOSEN_CUT_OFF] == 0
    pair, _ = drive(logo().steps(RECORD, own := bench()), lambda request: answer(request, ()))
    assert pair.chosen == "answer0 0"
    assert own.counts[CHOSEN_CUT_OFF] == 1


def test_rejected_answers_differ_from_each_other_if_an_attempt_does():
    """Twice the same one would have twice the weight."""

    def answer(request):
        _, name, attempt = request.id.split("/")
        return "chosen" if name == "answer0" else "wrong" if attempt == "0" else f"other {name}"

    made = bench()
    assert drive(logo().steps(RECORD, made), answer)[0].rejected == ("wrong", "other answer2")
    assert made.counts.total() == 0
    pair, _ = drive(logo(attempts=1).steps(RECORD, made), answer)
    assert pair.rejected == ("wrong", "wrong")
    assert made.counts["rejected answers that another one is, too"] == 1


class Everything(ChunkScorer):
    """Every chunk is about the question."""

    def score(self, chunk, question):
        return 3


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"min_critical_score": 9}, "no chunk shares"), ({"scorer": Everything()}, "no chunk is irrelevant")],
)
def test_logo_says_why_there_is_no_pair(options, reason):
    with pytest.raises(DroppedError, match=reason):
        drive(logo(**options).steps(RECORD, bench()), by_context)


def test_logo_asks_about_a_document():
    recipe = logo(questions=Cloze(prompt=RequestTemplate("{sentence}")), max_irrelevant_score=1)
    parts = [f"Section opens{n} now. Person{n} owns thing{n} place{n}." for n in range(8)]
    pair, _ = drive(recipe.steps(Document("d", "\n\n".join(parts)), bench()), by_context)
    assert pair.answers
    assert pair.answers[0] in pair.short_context
