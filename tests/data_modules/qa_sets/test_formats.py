"""Files of public QA sets: what is malformed is named."""

from pathlib import Path

import pytest
from support.qa_files import hotpotqa, musique, write

from data_modules.qa_sets.formats import read_qa
from data_modules.records import Passage, QARecord
from lit_longpo.files.strict_json import RecordError

SUPPORTING = {"text": "Ada.", "supporting": True}
BAD = {
    "no answer": (musique(1, answer=""), "'answer'"),
    "flag as text": (musique(1, answerable="yes"), "'answerable'"),
    "no passages": (musique(1, paragraphs=None), "'paragraphs'"),
    "nothing supporting": (musique(1, paragraphs=musique(1)["paragraphs"][2:]), "supporting"),
    "id twice": (musique(0), "'id'"),
    "not an object": ([], "record"),
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
    with pytest.raises(RecordError, match="'answers': expected a list of texts, got 3"):
        read_qa(write(tmp_path / "number.jsonl", [{**rows[0], "answers": 3}]))
