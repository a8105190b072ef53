"""Folders as people have them: copies of editors and bins are in them, and names in capitals."""

import json

from data_modules.builders.sources.documents import document_files, read_documents
from evaluation.benchmarks.records import read_file, record_files
from evaluation.perplexity.windows import text_files
from lit_longpo.files.folders import nearby


def write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps({"text": name}))
    return str(folder)


def test_what_is_hidden_is_no_data(tmp_path):
    """A second time, or thrown away: notebooks keep `.ipynb_checkpoints`, Obsidian `.trash`, clones `.git`."""
    hidden = (".ipynb_checkpoints/a-checkpoint.txt", ".trash/old.md", "sub/.git/x.jsonl", ".b.txt")
    folder = write(tmp_path / ".home" / "docs", "a.txt", "sub/b.jsonl", *hidden)  # what lies around it may be hidden
    assert [file.name for file in document_files(folder)] == ["a.txt", "b.jsonl"]
    assert [file.name for file in text_files(folder)] == ["a.txt"]
    assert [file.name for file in record_files(folder)] == ["b.jsonl"]


def test_endings_in_capitals_are_read(tmp_path):
    """Perplexity and benchmarks left them out without a word."""
    folder = write(tmp_path, "A.TXT", "b.txt")
    assert [file.name for file in text_files(folder)] == ["A.TXT", "b.txt"]
    assert [document.id for document in read_documents(document_files(folder))] == ["A.TXT", "b.txt"]
    folder = write(tmp_path / "records", "C.JSONL", "d.jsonl")
    assert [row.values["text"] for file in record_files(folder) for row in read_file(file)] == ["C.JSONL", "d.jsonl"]


def test_what_is_called_almost_so_is_asked_about(tmp_path):
    """With the folder as the user wrote it."""
    (tmp_path / "pairs_train.jsonl").touch()
    (tmp_path / "notes.jsonl").touch()
    assert nearby(tmp_path / "pairs_trian.jsonl") == f"; did you mean {tmp_path / 'pairs_train.jsonl'}?"
    assert nearby(tmp_path / "pairs_train.json") == f"; did you mean {tmp_path / 'pairs_train.jsonl'}?"


def test_nothing_is_said_where_nothing_is_like_it(tmp_path):
    (tmp_path / "notes.jsonl").touch()
    assert nearby(tmp_path / "pairs.jsonl") == ""
    assert nearby(tmp_path / "nowhere" / "notes.jsonl") == ""
    assert nearby(tmp_path / "notes.jsonl" / "notes.jsonl") == ""  # below a file
    assert nearby("~nobody-of-this-name/notes.jsonl") == ""  # it was a traceback
