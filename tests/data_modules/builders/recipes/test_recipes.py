"""Each recipe step by step, its answers scripted."""

import pytest
from support.builders import bench, drive

from data_modules.builders.generators.requests import Completion, Decoding, RequestTemplate
from data_modules.builders.recipes.base import DroppedError
from data_modules.builders.recipes.logo import LOGORecipe
from data_modules.builders.recipes.longpo import LongPORecipe
from data_modules.builders.recipes.questions import Cloze, SelfInstruct
from data_modules.builders.recipes.solopo import SoLoPORecipe
from data_modules.builders.sources.base import Document
from data_modules.builders.sources.chunking import Chunking
from data_modules.builders.sources.tokens import OMISSION
from data_modules.records import Passage, QARecord

FACT = Passage("Ada", "Ada lives in Oslo today.", True)
NOISE = tuple(Passage(f"Place {n}", f"Nothing number {n} happens here at all.") for n in range(12))
RECORD = QARecord("q1", "Where does Ada live?", ("Oslo",), (NOISE[0], FACT, *NOISE[1:]))
PARTS = [f"Section {n} opens. Person{n} owns a thing{n} there." for n in range(8)]
DOCUMENT = Document("d1", "\n\n".join(PARTS))


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


def longpo(**options):
    settings = {"chunking": Chunking(25), "max_turns": 3, "questions": Cloze(prompt=RequestTemplate("{sentence}"))}
    return LongPORecipe(**{**settings, **options})


def by_role(request):
    return f"{request.id.split('/')[2]} to {request.text[-24:].split()[-1]} {request.id.split('/')[1]}"


def test_longpo_answers_from_chunk_and_from_document():
    pair, asked = drive(longpo(long_tokens=1000).steps(DOCUMENT, bench()), by_role)
    assert pair.long_context == DOCUMENT.text
    assert len(pair.turns) == 2
    for turn in (pair, *pair.turns):
        assert turn.short_context in DOCUMENT.text
        assert turn.chosen.startswith("chosen")
        assert turn.rejected[0].startswith("rejected")
    assert [DOCUMENT.text[slice(*span)] for span in pair.supporting] == [t.short_context for t in (pair, *pair.turns)]
    assert pair.answers
    chosen, rejected = asked[:3], asked[3:]
    assert all(DOCUMENT.text in request.text for request in rejected)
    assert not any(DOCUMENT.text in request.text for request in chosen)
    assert all(request.decoding == Decoding(0.0, 1.0, 1024) for request in asked)


def test_longpo_cuts_the_document_in_its_middle_and_never_the_question():
    pair, asked = drive(longpo(long_tokens=60).steps(DOCUMENT, own := bench()), by_role)
    assert OMISSION in pair.long_context
    assert own.tokens.count(pair.long_context) <= 60
    assert own.counts["documents cut in the middle"] == 1
    for request in asked:
        if "rejected" in request.id:
            assert request.text.startswith(f"{pair.long_context}\n\n")
            assert request.text.removeprefix(f"{pair.long_context}\n\n") in {t.question for t in (pair, *pair.turns)}


def test_longpo_knows_the_decoding_of_the_scripts_too():
    _, asked = drive(longpo(answers="code", long_tokens=1000).steps(DOCUMENT, bench()), by_role)
    assert {request.decoding.temperature for request in asked} == {1.0}


def test_longpo_drops_turns_with_a_reason_and_keeps_the_others():
    def answer(request):
        return "the same" if request.id.split("/")[1] == bad else by_role(request)

    pair, _ = drive(longpo(long_tokens=1000).steps(DOCUMENT, bench()), by_role)
    bad = pair.chosen.rpartition(" ")[2]
    fewer, _ = drive(longpo(long_tokens=1000).steps(DOCUMENT, own := bench()), answer)
    assert len(fewer.turns) == len(pair.turns) - 1
    assert own.counts["turns whose answers are the same"] == 1
    with pytest.raises(DroppedError, match="fewer than 1 usable"):
        drive(longpo(long_tokens=1000).steps(DOCUMENT, bench()), lambda request: "the same")


def test_longpo_with_questions_of_the_model():
    def answer(request):
        return "1. Who is it?\n2. What?" if request.id.endswith("question") else by_role(request)

    pair, asked = drive(longpo(questions=SelfInstruct(), long_tokens=1000).steps(DOCUMENT, bench()), answer)
    assert {turn.question for turn in (pair, *pair.turns)} <= {"Who is it?", "What?"}
    assert sum(request.id.endswith("question") for request in asked) == 3
    with pytest.raises(DroppedError, match="fewer than 1"):
        drive(longpo(questions=SelfInstruct(), long_tokens=1000).steps(DOCUMENT, own := bench()), lambda _: "no list")
    assert own.counts["no question could be read in the model's list"] == 3


def test_longpo_refuses_documents_of_one_chunk():
    with pytest.raises(DroppedError, match="single chunk"):
        drive(longpo().steps(Document("d", "Only this."), bench()), by_role)


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
    with pytest.raises(DroppedError, match="no usable chosen"):
        drive(logo().steps(RECORD, bench()), lambda request: "")


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"min_critical_score": 9}, "no chunk shares"), ({"max_irrelevant_score": -1}, "no chunk is irrelevant")],
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


def test_cut_off_answers_are_counted():
    def answer(request):
        return Completion(request.id, by_role(request), finished=False)

    _, _ = drive(longpo(long_tokens=1000).steps(DOCUMENT, own := bench()), answer)
    assert own.counts["answers cut off at max_new_tokens"] == 6
