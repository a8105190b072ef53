"""Evaluation files that no pair may overlap with."""

import json
from collections import Counter
from pathlib import Path

import pytest
from support.builders import Scripted, world_build

from data_modules.builders.checks.decontamination import Decontamination
from data_modules.builders.generators.requests import RequestTemplate
from data_modules.builders.recipes.base import DroppedError
from data_modules.builders.recipes.longpo import LongPORecipe
from data_modules.builders.recipes.questions import Cloze
from data_modules.builders.rehearsal import rehearse
from data_modules.builders.sources.chunking import Chunking
from data_modules.builders.sources.documents import DocumentFiles
from data_modules.builders.sources.qa_files import QAFiles
from data_modules.records import read_pairs
from lit_longpo.errors import InputError, UserError


def test_evaluation_questions_are_kept_out(tmp_path):
    records = [
        {
            "id": f"r{n}",
            "question": question,
            "answer": "word0",
            "paragraphs": [
                {"title": "T", "paragraph_text": "word0 word1", "is_supporting": True},
                {"title": "U", "paragraph_text": "word5 word6", "is_supporting": False},
            ],
        }
        for n, question in enumerate(["Where did the old captain sail in the autumn of that year?", "Who was it?"])
    ]
    (tmp_path / "qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in records))
    evaluation = {
        "nested": [{"question": "Where did the old captain sail, in the autumn of that year, then?", "answer": "word0"}]
    }
    (tmp_path / "eval.json").write_text(json.dumps(evaluation))
    generator = Scripted()
    report = world_build(
        tmp_path / "out",
        source=QAFiles((str(tmp_path / "qa.jsonl"),)),
        decontamination=Decontamination((str(tmp_path / "eval.json"),)),
        generator=generator,
    ).run()
    assert report.reasons["the question overlaps with an evaluation file"] == 1
    assert report.candidates["short answers that also occur in an evaluation file (kept)"] == 1
    assert not any(name.startswith("r0/") for name in generator.asked)  # nothing was paid for it


def test_questions_about_documents_are_kept_out_whatever_the_recipe_writes_around_them(tmp_path):
    """The words of the instruction were n-grams of the question: of those less than half were the evaluation's."""
    names = ("Ada", "Ben", "Cleo", "Dan")
    text = "\n\n".join(f"{name} keeps the old lamp of room {name} and lights it at dusk every day." for name in names)
    (tmp_path / "book.txt").write_text(text)
    around = "Answer the question with the text above, in one short sentence, and say nothing else: {question} Think!"
    recipe = LongPORecipe(
        Chunking(30), 4, 4, Cloze(), RequestTemplate(around), filters=[], max_new_tokens=4, long_tokens=1000
    )
    options = {"source": DocumentFiles(str(tmp_path / "book.txt")), "recipe": recipe, "verifiers": ()}
    by_name = {"generator": Scripted("by name")}
    world_build(tmp_path / "free", **options, **by_name).run()
    [pair] = read_pairs(tmp_path / "free" / "pairs.jsonl")
    before, after = around.split("{question}")
    asked = [turn.question.removeprefix(before).removesuffix(after) for turn in pair.all_turns]
    assert all(question.startswith("Complete: ") for question in asked)
    (tmp_path / "eval.jsonl").write_text(json.dumps({"question": asked[-1], "answer": "north"}) + "\n")
    report = world_build(
        tmp_path / "kept", **options, **by_name, decontamination=Decontamination((str(tmp_path / "eval.jsonl"),))
    ).run()
    assert report.reasons == {"the question overlaps with an evaluation file": 1}


def test_one_chinese_name_does_not_make_an_english_question_one_of_letters(tmp_path):
    asked = "Where did the old captain \u5f20\u4f1f sail in the autumn of that long year?"
    other = "Which of the old captains saw \u674e\u5a1c dance in the autumn of that year?"
    (tmp_path / "eval.jsonl").write_text(json.dumps({"question": asked, "answer": "north"}) + "\n")
    check = Decontamination((str(tmp_path / "eval.jsonl"),), n=4).check
    check(other, (), Counter())
    with pytest.raises(DroppedError):
        check(asked.replace("long", "very"), (), Counter())


@pytest.mark.parametrize(
    "asked",
    [
        "Which river flows through Vienna and through Budapest?",
        "\u8c01\u662f\u7b2c\u4e00\u4efb\u603b\u7406\u4ee5\u53ca\u5916\u4ea4\u90e8\u957f",
    ],
)
def test_an_evaluation_question_inside_of_a_longer_one_is_kept_out(asked, tmp_path):
    """Its n-grams were less than half of the longer one's (marin#6852)."""
    (tmp_path / "eval.jsonl").write_text(json.dumps({"question": asked, "answer": "north"}) + "\n")
    check = Decontamination((str(tmp_path / "eval.jsonl"),)).check
    around = "Read the text above with care, and answer briefly what a reader of it has asked: {} Say nothing else."
    check(around.format(f"{asked[:4]}?"), (), Counter())
    check(around.format(f"{asked[:-8]}?"), (), Counter())
    with pytest.raises(DroppedError):
        check(around.format(asked), (), Counter())


def test_every_evaluation_file_has_questions(tmp_path):
    """Of two files one had another field: its questions were trained on without a word (marin#1202)."""
    names = [str(tmp_path / f"{field}.jsonl") for field in ("question", "prompt")]
    for name, field in zip(names, ("question", "prompt"), strict=True):
        Path(name).write_text(json.dumps({field: f"Who sang at the opening of the {field} hall that winter?"}))
    asked = "Who sang at the opening of the prompt hall that winter?"
    with pytest.raises(InputError, match=r"fields question, input of .*prompt\.jsonl, got none"):
        Decontamination(tuple(names)).check(asked, (), Counter())
    with pytest.raises(DroppedError):
        Decontamination(tuple(names), question_fields=("question", "prompt")).check(asked, (), Counter())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"prompt": "Who sang?"}', r"fields question, input of .*eval\.jsonl, got none"),
        ('{"question": 3', r"eval\.jsonl:1: record: expected UTF-8 JSON"),
        (None, r"expected evaluation records at .*eval\.jsonl"),
    ],
)
def test_files_that_cannot_be_read_are_refused_before_anybody_is_asked(text, expected, tmp_path):
    """All was asked and paid for, and then every record failed, or was no pair."""
    if text is not None:
        (tmp_path / "eval.jsonl").write_text(text)
    generator = Scripted()
    build = world_build(
        tmp_path / "out", decontamination=Decontamination((str(tmp_path / "eval.jsonl"),)), generator=generator
    )
    for start in (build.run, lambda: rehearse(build)):
        with pytest.raises(UserError, match=expected):
            start()
    assert not generator.asked
    assert not (tmp_path / "out").exists()


def test_answers_are_kept_out_from_so_many_words_on_and_texts_without_words_overlap_with_nothing(tmp_path):
    row = {"question": "Who sailed?", "answer": "the old captain of the grey ship sailed home"}
    (tmp_path / "eval.json").write_text(json.dumps([row]))
    more, as_many = (Decontamination((str(tmp_path / "eval.json"),), n=3, min_answer_words=least) for least in (10, 9))
    counts = Counter[str]()
    more.check("?!", ("...", row["answer"]), counts)
    assert counts.total() == 1
    with pytest.raises(DroppedError, match="an answer overlaps"):
        as_many.check("?!", (row["answer"],), counts)


def test_a_file_whose_questions_are_blank_asks_none(tmp_path):
    """As six of LongBench's files, whose tasks say what to do in the prompt alone; of nothing else they are refused."""
    names = [str(tmp_path / f"{name}.jsonl") for name in ("hotpotqa", "gov_report")]
    asked = "Who sang at the opening of the town hall that winter?"
    for name, text in zip(names, (asked, ""), strict=True):
        Path(name).write_text(json.dumps({"input": text, "answers": ["Ada"]}))
    with pytest.raises(DroppedError):
        Decontamination(tuple(names)).check(asked, (), Counter())
    with pytest.raises(InputError, match=r"of .*gov_report\.jsonl, got none"):
        Decontamination((names[1],)).check(asked, (), Counter())
