"""Records that come again are asked once, and counted."""

import json
from dataclasses import replace

from support.builders import RECORD, Scripted, world_build

from data_modules.builders.sources.base import Document, Repeats, Source
from data_modules.builders.sources.documents import DocumentFiles


def test_an_id_is_used_once():
    repeats = Repeats()
    assert [repeats.used(id) for id in ("a", "b", "a")] == [False, False, True]


def test_a_text_is_said_once_however_it_is_spaced():
    repeats = Repeats()
    texts = ["One  book.\r\nIts end.", "One book.\nIts end.\n", "One book."]
    assert [bool(repeats.said(Document(str(n), text))) for n, text in enumerate(texts)] == [False, True, False]


def test_a_question_comes_again_with_all_it_is_about():
    repeats = Repeats()
    others = [
        replace(RECORD, id="q2"),
        replace(RECORD, question="Where is Ada?"),
        replace(RECORD, answers=("Rome",)),
        replace(RECORD, passages=RECORD.passages[:2]),
    ]
    assert not repeats.said(RECORD)
    assert [bool(repeats.said(record)) for record in others] == [True, False, False, False]


class Twice(Source):
    """A record, and the same under another id."""

    def items(self, tokens):
        yield RECORD
        yield replace(RECORD, id="again")


def test_what_comes_again_is_filtered_and_nobody_is_asked(tmp_path):
    generator = Scripted()
    report = world_build(tmp_path, source=Twice(), generator=generator, verifiers=()).run()
    assert report.records == 2
    assert report.reasons["the same question about the same passages as an earlier one"] == 1
    assert not [request for request in generator.asked if "again" in str(request)]
    rows = [json.loads(line) for line in (tmp_path / "outcomes.jsonl").read_text().splitlines()]
    assert [(row["id"], row["status"]) for row in rows][1] == ("again", "filtered")


def test_files_of_records_with_marks_empty_lines_and_no_ids(tmp_path):
    """A mark of the byte order made the first record a failed one; two records of `id: null` were both called None."""
    path = tmp_path / "a.jsonl"
    lines = [{"id": None, "text": "one"}, {"id": None, "text": "two"}]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(map(json.dumps, lines)).encode() + b"\r\n\r\n")
    found = list(DocumentFiles(str(path)).items(None))
    assert found == [Document("a.jsonl:1", "one"), Document("a.jsonl:2", "two")]
