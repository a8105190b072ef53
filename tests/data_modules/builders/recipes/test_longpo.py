"""LongPO's recipe step by step, its answers scripted."""

import pytest
from support.builders import bench, drive

from data_modules.builders.generators.requests import Completion, Decoding, RequestTemplate
from data_modules.builders.recipes.base import CHOSEN_CUT_OFF, DroppedError
from data_modules.builders.recipes.longpo import LongPORecipe
from data_modules.builders.recipes.questions import Cloze, SelfInstruct
from data_modules.builders.sources.base import Document
from data_modules.builders.sources.chunking import Chunking
from data_modules.builders.sources.tokens import OMISSION

PARTS = [f"Section {n} opens. Person{n} owns a thing{n} there." for n in range(8)]
DOCUMENT = Document("d1", "\n\n".join(PARTS))


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


def test_the_turns_of_a_document_have_different_questions():
    """Small models ask every chunk for its main topic: turns had one question and other answers (deepeval#1925)."""

    def answer(request):
        chunk = request.id.split("/")[1]
        asks = "1. What is the MAIN topic?" if chunk == "chunk2" else "1. What is the main topic"
        return (asks if request.id.endswith("question") else f"Of {chunk}: {request.id}").replace("chunk0", "Ada")

    asking = longpo(questions=SelfInstruct(), max_turns=4, long_tokens=1000, chunking=Chunking(12))
    pair, asked = drive(asking.steps(DOCUMENT, own := bench()), answer)
    assert [turn.question for turn in pair.all_turns] == ["What is the main topic"]
    assert own.counts["turns with the question of an earlier turn"] == 3
    assert len([request for request in asked if not request.id.endswith("question")]) == 2


def test_longpo_refuses_documents_of_one_chunk():
    with pytest.raises(DroppedError, match=r"single chunk.*lower `recipe.chunking.max_tokens`"):
        drive(longpo().steps(Document("d", "Only this."), bench()), by_role)


def test_answers_that_differ_in_thoughts_case_or_spacing_alone_are_the_same():
    """camel-ai/owl#592: what is to be preferred is in both."""

    def answer(request):
        return "It is he?</think>person  ONE" if request.id.split("/")[2] == "chosen" else "Who?</think>Person one\n"

    with pytest.raises(DroppedError, match="fewer than 1 usable"):
        drive(longpo(long_tokens=1000).steps(DOCUMENT, own := bench(opened=True)), answer)
    assert own.counts["turns whose answers are the same"] == 3


def test_cut_off_answers_are_counted():
    def answer(request):
        return Completion(request.id, by_role(request), finished=False)

    _, _ = drive(longpo(long_tokens=1000).steps(DOCUMENT, own := bench()), answer)
    assert own.counts["answers cut off at max_new_tokens"] == 6
    assert own.counts[CHOSEN_CUT_OFF] == 3


def test_longpo_chooses_no_thoughts_without_an_answer():
    """Cut off in its thoughts, an answer was chosen; of those that end them the thoughts stay."""

    def answer(request):
        return "Let me see, Person" if request.id.split("/")[2] == "chosen" else "It is he?</think>Person1"

    with pytest.raises(DroppedError, match="fewer than 1 usable"):
        drive(longpo(long_tokens=1000).steps(DOCUMENT, own := bench(opened=True)), answer)
    assert own.counts["thoughts without an answer"] == 3
