"""Files of public QA sets: what is malformed is named."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.qa_files import hotpotqa, musique, squad, write

from data_modules.qa_sets.formats import read_corpus, read_qa
from data_modules.records import Passage, QARecord
from evaluation.benchmarks.questions import read_questions
from lit_longpo.errors import InputError
from lit_longpo.files.strict_json import RecordError

SUPPORTING = {"text": "Ada.", "supporting": True}
BAD = {
    "no answer": (musique(1, answer=""), "'answer'"),
    "flag as text": (musique(1, answerable="yes"), "'answerable'"),
    "no passages": (musique(1, paragraphs=None), "'paragraphs'"),
    "nothing supporting": (musique(1, paragraphs=musique(1)["paragraphs"][2:]), "supporting"),
    "id twice": (musique(0), "'id'"),
    "not an object": ([], "record"),
    "misspelt aliases": (musique(1, answer_alias=["x"]) | {"answer_aliases": 0}, "'answer_aliases'"),
    "misspelt flag": (
        {k: v for k, v in musique(1, answerabel=False).items() if k != "answerable"},
        "'answerabel'",
    ),
    "a list as title": (musique(1, paragraphs=[{**musique(1)["paragraphs"][0], "title": ["x"]}]), "'title'"),
}


@pytest.mark.parametrize("name", BAD)
def test_malformed_record_is_named(tmp_path: Path, name: str) -> None:
    record, field = BAD[name]
    path = write(tmp_path / "set.jsonl", [musique(0), record])
    with pytest.raises(RecordError, match=field) as caught:
        read_qa(path)
    assert f"{path}:2" in str(caught.value)


def test_malformed_hotpotqa_and_unknown_formats(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="context"):
        read_qa(write(tmp_path / "a.json", [hotpotqa(0, context=[["title"]])]))
    with pytest.raises(RecordError, match="supporting_facts"):
        read_qa(write(tmp_path / "b.json", [hotpotqa(0, supporting_facts=["title"])]))
    with pytest.raises(RecordError, match="one of the formats musique, hotpotqa, 2wikimultihop, squad"):
        read_qa(write(tmp_path / "c.json", [{"text": "x"}]))


def test_plain_questions(tmp_path: Path) -> None:
    """What `evaluate` asks can be built from: the context supports the answer."""
    rows = [
        {"question": "Where?", "context": "In Oslo.", "answers": ["Oslo", "Oslo"]},
        {
            "id": 7,
            "question": "Who?",
            "answer": "Ada",
            "passages": [{"text": "Ada.", "supporting": True}, {"text": "x"}],
        },
    ]
    first, second = read_qa(write(tmp_path / "own.jsonl", rows))
    assert first == QARecord("own.jsonl:1", "Where?", ("Oslo",), (Passage("", "In Oslo.", True),))
    assert second == QARecord("7", "Who?", ("Ada",), (Passage("", "Ada.", True), Passage("", "x")))
    with pytest.raises(RecordError, match="'passages': expected at least one with `supporting: true`"):
        read_qa(write(tmp_path / "none.jsonl", [{**rows[1], "passages": [{"text": "x"}]}]))
    with pytest.raises(RecordError, match="'answers': expected accepted answers, a text or a list of texts, got 3"):
        read_qa(write(tmp_path / "number.jsonl", [{**rows[0], "answers": 3}]))


def test_rows_of_squad_as_datasets_has_them(tmp_path: Path) -> None:
    """What `evaluate` reads: several gold answers under `text`, none where nothing answers."""
    rows = [
        {
            "question": "Who won?",
            "context": "Ada won.",
            "answers": {"text": ["Ada", "Ada won"], "answer_start": [0, 0]},
        },
        {"question": "Who lost?", "context": "Ada won.", "answers": {"text": [], "answer_start": []}},
    ]
    path = write(tmp_path / "rows.jsonl", [{"id": str(n), "title": "t", **row} for n, row in enumerate(rows)])
    assert [record.answers for record in read_qa(path)] == [("Ada", "Ada won"), ()]
    assert [question.answers for question in read_questions(str(path))] == [("Ada", "Ada won"), ()]


HOTPOTQA = hotpotqa(0)
MALFORMED_FACTS = [[[["a", "list"], 0]], [["title"]], [["title", "0"]], [["title", True]], [], "title", [{}]]


def as_on_the_hub(row):
    """As `load_dataset("hotpotqa/hotpot_qa", "distractor")` gives it, written with `to_json`."""
    context, facts = row["context"], row["supporting_facts"]
    columns = {
        "context": {"title": [title for title, _ in context], "sentences": [said for _, said in context]},
        "supporting_facts": {"title": [title for title, _ in facts], "sent_id": [number for _, number in facts]},
    }
    rest = {name: value for name, value in row.items() if name not in ("_id", *columns)}
    return {"id": row["_id"], "type": "bridge", "level": "hard", **rest, **columns}


def test_hotpotqa_reads_the_same_as_the_hub_has_it(tmp_path: Path) -> None:
    """It was refused in two steps: first `id`, then the columns (KG2RAG#11, hotpot#44)."""
    rows = [hotpotqa(number) for number in range(3)]
    published = read_qa(write(tmp_path / "published.json", rows))
    assert read_qa(write(tmp_path / "hub.jsonl", [as_on_the_hub(row) for row in rows])) == published
    for change in (lambda context: context["title"].pop(), lambda context: context.update(sentences=None)):
        change((row := as_on_the_hub(rows[0]))["context"])
        with pytest.raises(RecordError, match=r"hub.jsonl:1: field 'context': expected a list of \[title, sentences\]"):
            read_qa(write(tmp_path / "hub.jsonl", [row]))


@pytest.mark.parametrize("facts", MALFORMED_FACTS)
def test_supporting_facts_are_titles_with_numbers(tmp_path: Path, facts: object) -> None:
    path = write(tmp_path / "set.jsonl", [HOTPOTQA, {**HOTPOTQA, "_id": "2", "supporting_facts": facts}])
    with pytest.raises(RecordError, match=rf"{path}:2: field 'supporting_facts.*title, sentence number"):
        read_qa(path)


def test_a_supporting_title_that_is_missing_leaves_the_question_without_answers(tmp_path: Path) -> None:
    facts = [*HOTPOTQA["supporting_facts"], ["Elsewhere", 0]]
    (record,) = read_qa(write(tmp_path / "set.jsonl", [{**HOTPOTQA, "supporting_facts": facts}]))
    assert (record.answers, record.unanswered) == ((), "a supporting title is not in the context")
    with pytest.raises(RecordError, match="'answer'"):
        read_qa(write(tmp_path / "set.jsonl", [{**HOTPOTQA, "supporting_facts": facts, "answer": 3}]))


@pytest.mark.parametrize(("make", "field"), [(musique, "answer"), (hotpotqa, "answer")])
def test_an_answer_that_no_supporting_passage_holds(tmp_path: Path, make: Any, field: str) -> None:
    """1900 is in the passage beside the supporting one; "yes" is in none and can be read there all the same."""
    records = [make(0), make(1, **{field: "1910"}), make(2, **{field: "yes"})]
    answers = [record.answers for record in read_qa(write(tmp_path / "set.jsonl", records))]
    assert answers == [("1901",), (), ("yes",)]


def test_squad_answers_are_looked_for_in_their_paragraph(tmp_path: Path) -> None:
    document = squad(1)
    first, second, third, _ = (paragraph["qas"][0] for paragraph in document["data"][0]["paragraphs"])
    first["answers"] = [{"text": "1999"}, {"text": "1900"}]  # one of the annotators is right
    second["answers"] = [{"text": "1999"}]
    third["is_impossible"] = True
    records = read_qa(write(tmp_path / "set.json", document))
    assert [record.answers for record in records] == [("1999", "1900"), (), (), ("1903",)]
    assert records[1].unanswered == "no supporting passage holds an answer"
    third["is_impossible"] = "no"
    with pytest.raises(RecordError, match="'is_impossible': expected true or false"):
        read_qa(write(tmp_path / "set.json", document))


def test_a_piece_of_the_paragraph_is_its_answer_wherever_it_is_cut(tmp_path: Path) -> None:
    """XQuAD's question 5729e2316aef0514001550c5: the answer ends within a number, which words would not."""
    document = squad(1)
    paragraph = document["data"][0]["paragraphs"][0]
    paragraph["context"] = "This basin encompasses 7,000,000 square kilometres (2,700,000 sq mi)."
    paragraph["qas"][0]["answers"] = [{"text": "7,000,000 square kilometres (2,70"}]
    record = read_qa(write(tmp_path / "set.json", document))[0]
    assert record.answers == ("7,000,000 square kilometres (2,70",)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"answer": "Lima"}, "'answer': expected this field or 'answers', not both"),
        ({"passages": []}, "'context'"),
        ({"Answers ": ["x"], "answers": None}, "'answers'"),
        ({"passagse": []}, "'passagse': expected 'passages'"),
    ],
)
def test_a_plain_question_says_things_once(tmp_path: Path, change: dict[str, Any], field: str) -> None:
    good = {"question": "Where?", "context": "In Oslo.", "answers": ["Oslo"], "idx": 3, "type": "x"}
    lacking = {"question": "Where?", "answers": ["Oslo"]} if "passagse" in change else good
    path = tmp_path / "own.json"
    path.write_text("[\n" + json.dumps(good) + ",\n" + json.dumps(lacking | change) + "]")
    with pytest.raises(RecordError, match=rf"{path}:3: field {field}"):
        read_qa(path)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"answerable": False}, "answerable"),
        ({"is_impossible": True}, "is_impossible"),
        ({"answer_aliases": ["Christiania"]}, "answer_aliases"),
        ({"aliases": ["Christiania"]}, "aliases"),  # evalscope#1727: no alias was right
        ({"possible_answers": ["Christiania"]}, "possible_answers"),  # PopQA's
        ({"choices": ["Rome", "Oslo"], "answers": ["B"]}, "choices"),  # MMLU's, QuALITY's
        ({"options": {"A": "Rome", "B": "Oslo"}, "answers": ["B"]}, "options"),
        ({"choice_A": "Rome", "choice_B": "Oslo", "answers": ["B"]}, "choice_A"),  # LongBench v2's
        ({"A": "Rome", "B": "Oslo", "answers": ["B"]}, "A"),  # CMMLU's
    ],
)
def test_what_another_format_says_about_answers_is_not_overlooked(tmp_path: Path, change: Any, field: str) -> None:
    """Exported from MuSiQue or SQuAD as plain questions: a question without an answer would have one again."""
    row = {"question": "Where?", "context": "In Oslo.", "answers": ["Oslo"]}
    said = {"answerable": True, "is_impossible": False, "answer_aliases": [], "unanswerable": None, "options": []}
    again = {"aliases": ["Oslo"], "possible_answers": ["Oslo"]}  # beside the `answers` that the refusal asks for
    assert len(read_qa(write(tmp_path / "same.jsonl", [row | said | again]))) == 1
    path = write(tmp_path / "set.jsonl", [row, {**row, **change}])
    for read in (read_qa, lambda path: read_questions(str(path))):
        with pytest.raises(RecordError, match=rf"set.jsonl:2: field '{field}': expected what questions of this format"):
            read(path)


def test_tables_empty_corpora_and_a_misspelt_format_are_named(tmp_path: Path) -> None:
    (tmp_path / "set.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"got the table .*set\.parquet; write its records into a \.jsonl file"):
        read_qa(tmp_path / "set.parquet")
    with pytest.raises(RecordError, match=r"corpus\.json: file: expected at least one passage"):
        read_corpus(write(tmp_path / "corpus.json", []))
    misspelt = {("suporting_facts" if name == "supporting_facts" else name): v for name, v in hotpotqa(0).items()}
    with pytest.raises(RecordError, match="'suporting_facts': expected 'supporting_facts'"):
        read_qa(write(tmp_path / "set.json", [misspelt]))


def test_an_answer_without_letters_is_looked_for_as_it_is_written(tmp_path: Path) -> None:
    document = squad(1)
    questions = [paragraph["qas"][0] for paragraph in document["data"][0]["paragraphs"]]
    questions[0]["answers"], questions[1]["answers"] = [{"text": "."}], [{"text": "?!"}]
    records = read_qa(write(tmp_path / "set.json", document))
    assert [record.answers for record in records[:2]] == [(".",), ()]


def test_a_misspelt_flag_of_a_passage(tmp_path: Path) -> None:
    passages = [{"text": "Oslo.", "supporting": True}, {"text": "Lima", "suporting": True}]
    row = {"question": "Where?", "answers": ["Oslo"], "passages": passages}
    with pytest.raises(RecordError, match=r"'suporting': expected 'supporting'"):
        read_qa(write(tmp_path / "own.jsonl", [row]))
