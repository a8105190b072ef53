import pytest
from support import qa_files

from data_modules.questions import read_question_records
from data_modules.records import PreferencePair, write_pairs
from evaluation import QA
from lit_longpo.__main__ import register_classes

PAIR = PreferencePair("p", "Who?", "Ann.", "Bob. Ann. Tom.", "It is Ann", ("Bob",), ("Ann",), supporting=((5, 9),))


def test_pairs_and_sets_are_told_apart(tmp_path):
    write_pairs(tmp_path / "pairs.jsonl", [PAIR])
    assert read_question_records(str(tmp_path / "pairs.jsonl")) == [PAIR]
    sets = {"squad.json": qa_files.squad(2), "hotpot.json": [qa_files.hotpotqa(1)], "m.jsonl": [qa_files.musique(1)]}
    for name, content in sets.items():
        records = read_question_records(str(qa_files.write(tmp_path / name, content)))
        assert all(any(passage.supporting for passage in record.passages) for record in records)


@pytest.mark.parametrize("content", ["{]\n", "[]", "3", '{"question": "Who?"}\n'])
def test_what_nobody_reads_is_an_error_that_names_the_file(tmp_path, content):
    (tmp_path / "x.jsonl").write_text(content)
    with pytest.raises(ValueError, match=r"x\.jsonl"):
        read_question_records(str(tmp_path / "x.jsonl"))


def test_the_command_line_asks_questions_of_every_file(tmp_path):
    register_classes()
    write_pairs(tmp_path / "pairs.jsonl", [PAIR])
    assert [item.context for item in QA(str(tmp_path / "pairs.jsonl"), context="short").asked] == ["Ann."]
    path = qa_files.write(tmp_path / "m.jsonl", [qa_files.musique(1)])
    [question] = QA(str(path)).asked
    assert question.context[round(question.depth * len(question.context)) :].startswith("Lima Hall")


def test_questions_that_are_not_asked_are_counted(tmp_path, caplog):
    path = qa_files.write(tmp_path / "m.jsonl", [qa_files.musique(1), qa_files.musique(2, answer="Nobody")])
    assert [bool(record.answers) for record in read_question_records(str(path))] == [True, False]
    assert caplog.messages == [f"{path}: 1 of 2 questions are not asked: no supporting passage holds an answer"]


def test_what_no_parser_reads_is_said_by_the_strict_one(tmp_path):
    path = tmp_path / "deep.json"
    path.write_text('{"a":' * 3000)
    with pytest.raises(ValueError, match=r"expected UTF-8 JSON .*recursion"):
        read_question_records(str(path))


def test_questions_in_a_table_are_said_to_be_in_one(tmp_path):
    """It said that `question`, `answers` and `context` were expected, and that they had come."""
    path = tmp_path / "own.csv"
    path.write_text("question,context,answers\nWho?,It is Ann.,Ann\n")
    with pytest.raises(ValueError, match=r"expected questions as JSON Lines, not in a table \(pandas: to_json"):
        read_question_records(str(path))
    path = tmp_path / "pairs.jsonl"  # of a format that nobody knows, and in no table
    path.write_text('{"question": "Who?", "context": "It is Ann.", "chosen": "Ann", "rejected": "Bob"}\n')
    with pytest.raises(ValueError, match=r"expected `question`, `answers` and `context`, .* or pairs of a format"):
        read_question_records(str(path))


def test_advice_is_of_the_command_that_runs(tmp_path):
    """`evaluate` cannot map columns."""
    path = tmp_path / "own.jsonl"
    path.write_text('{"frage": "x", "antwort": "y"}\n')
    with pytest.raises(ValueError, match=r"expected `question`, `answers` and `context`, .*got \['frage'") as caught:
        read_question_records(str(path))
    assert "init_args" not in str(caught.value)
    path.write_text('{"prompt": "x", "chosen": "y", "rejected": "z", "source": "web"}\n')
    assert read_question_records(str(path))[0].chosen == "y"
