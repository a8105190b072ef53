import json

import pytest

from evaluation.benchmarks import questions
from evaluation.benchmarks.questions import Question, read_questions


def written(tmp_path, rows, name="q.jsonl"):
    path = tmp_path / name
    text = "\n".join(map(json.dumps, rows)) + "\n\n" if name.endswith("l") else json.dumps(rows)
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    return str(path)


def test_answers_contexts_and_depths_come_in_several_forms(tmp_path):
    rows = [
        {"id": "a", "question": "Who?", "answer": "Ann", "context": "Ten words before Ann.", "depth": 0.25, "extra": 1},
        {"question": "Who?", "answers": ["Ann", "Ann", "A. Lee"], "context": "1234 Ann 9"},
        {"id": 7, "question": "Who?", "answers": {"text": ["Ann"], "answer_start": [5]}, "context": "Ann is Ann"},
        {"id": "p", "question": "Who?", "answers": [],
         "passages": ["one", {"title": "T", "text": "two", "supporting": True}, {"text": "three"}]},
    ]  # fmt: skip
    expected = [
        Question("a", "Who?", ("Ann",), "Ten words before Ann.", 0.25),
        Question("2", "Who?", ("Ann", "A. Lee"), "1234 Ann 9", 0.5),
        Question("7", "Who?", ("Ann",), "Ann is Ann", None),
        Question("p", "Who?", (), "one\n\nT\ntwo\n\nthree", 5 / 17),
    ]
    assert read_questions(written(tmp_path, rows)) == expected
    rows[1]["id"] = "2"
    assert read_questions(written(tmp_path, rows, "q.json")) == expected


GOOD = {"question": "Who?", "answers": ["Ann"], "context": "Ann."}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": None}, "q.jsonl:2: field 'answers': expected accepted answers"),
        ({"answers": [""]}, "q.jsonl:2: field 'answers[0]': expected text that is not empty"),
        (
            {"answers": "['Ann', 'Bob']"},
            "q.jsonl:2: field 'answers': expected a list of texts, not one that is printed",
        ),
        ({"answers": '["Ann"]'}, "q.jsonl:2: field 'answers': expected a list of texts, not one that is printed"),
        ({"answer": "Bob"}, "q.jsonl:2: field 'answer': expected this field or 'answers', not both"),
        ({"question": "Wh\ud83do?"}, "q.jsonl:2: field 'question': expected valid Unicode text"),
        ({"context": 3}, "q.jsonl:2: field 'context': expected text"),
        ({"question": " "}, "q.jsonl:2: field 'question'"),
        ({"depth": 2}, "q.jsonl:2: field 'depth': expected a number from 0 to 1, got 2"),
        ({"depht": 0.5}, "q.jsonl:2: field 'depht': expected 'depth'"),
        ({"passages": ["x"]}, "no `context` beside it"),
        ({"id": "1"}, "expected an id not used before, got '1'"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, change, message):
    with pytest.raises(ValueError, match="correct the file, nothing is skipped") as caught:
        read_questions(written(tmp_path, [GOOD, {**GOOD, **change}]))
    assert message in str(caught.value)


def test_an_answer_that_is_a_printed_list_stands_in_a_list(tmp_path):
    """Tables print lists, and PopQA's `possible_answers` is one: no answer was right by that text."""
    rows = [{**GOOD, "answers": ["['Ann']"]}, {**GOOD, "answers": "[Ann]"}]
    assert [item.answers for item in read_questions(written(tmp_path, rows))] == [("['Ann']",), ("[Ann]",)]


@pytest.mark.parametrize("name", ["q.jsonl", "q.json"])
def test_a_field_given_twice_is_named(name, tmp_path):
    """JSON readers take the last one, so an answer would be lost without a word."""
    twice = json.dumps(GOOD)[:-1] + ', "answers": ["Bob"]}'
    first, other = json.dumps(GOOD), twice
    (tmp_path / name).write_text(f"{first}\n{other}\n" if name == "q.jsonl" else f"[{first},\n{other}]")
    with pytest.raises(ValueError, match=rf"{name}:2: record: expected each field once, got \['question', 'answers'"):
        read_questions(str(tmp_path / name))


def test_what_is_no_json_is_named(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps(GOOD) + "\n{]\n")
    with pytest.raises(ValueError, match=r"q\.jsonl:2: record: expected UTF-8 JSON"):
        read_questions(str(path))
    with pytest.raises(FileNotFoundError, match=r"expected a file of questions at .*nothing\.jsonl"):
        read_questions(str(tmp_path / "nothing.jsonl"))


def test_other_layouts_are_read_by_who_knows_them(tmp_path, monkeypatch):
    path = written(tmp_path, [{"question": "Who?", "long_context": "Ann.", "chosen": "Ann"}])
    monkeypatch.setattr(questions, "_readers", [])
    with pytest.raises(ValueError, match="got another layout; pairs and QA sets are read by"):
        read_questions(path)
    questions.register_reader(lambda asked: [asked, "record"])
    assert read_questions(path) == [path, "record"]
