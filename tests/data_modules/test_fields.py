"""A table often names the file of a document where its text should stand; the letters of the name were trained."""

import csv
import json

import pytest

from data_modules.formats.loading import load_pairs
from data_modules.formats.reader import RecordReader
from data_modules.qa_sets.formats import read_qa
from lit_longpo.files.strict_json import RecordError

_COLUMNS = {"long_context": "file", "question": "ask", "chosen": "good", "rejected": "wrong"}


def table(folder, *names: str):
    path = folder / "pairs.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([_COLUMNS.values(), *([name, "When?", "At 6.", "At 7."] for name in names)])
    return str(path)


@pytest.fixture
def documents(tmp_path, monkeypatch):
    """A folder with documents, and another one to work in."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "Hafen \u00e4.md").write_text("# Hafen\n\nIt opens at 6.")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path


def test_a_short_context_of_letters_of_several_bytes_is_a_text(documents):
    """No file's name has more than 255 bytes; a hundred Chinese letters have 300: an error of the system."""
    texts = "\u6e2f" * 100, "docs/" + "\u6e2f" * 250
    pairs = load_pairs(table(documents, *texts), "train", "data.init_args.path", RecordReader(columns=_COLUMNS))
    assert tuple(pair.long_context for pair in pairs) == texts


@pytest.mark.parametrize("name", ["docs/Hafen \u00e4.md", "../docs/Hafen \u00e4.md"])
def test_a_context_that_names_a_file_is_refused(name, documents):
    """As the record's file or the working folder sees it."""
    path = table(documents, "It opens at 6.", name)
    with pytest.raises(RecordError, match=r"pairs.csv:3: field 'file': expected a text, not the name of a file"):
        load_pairs(path, "train", "data.init_args.path", RecordReader(columns=_COLUMNS))


@pytest.mark.parametrize("text", ["docs", "docs/none.md", "a" * 300, "It\nopens", "a\u0000", "~"])
def test_what_names_no_file_is_text(text, documents):
    record = {"prompt": text, "chosen": "At 6.", "rejected": "At 7."}
    path = documents / "pairs.jsonl"
    path.write_text(json.dumps(record))
    [pair] = load_pairs(str(path), "train", "data.init_args.path", RecordReader())
    assert pair.long_context == text


@pytest.mark.parametrize("passages", [True, False])
def test_so_is_a_question_for_build(passages, documents):
    name = "docs/Hafen \u00e4.md"
    about = {"passages": [{"title": "", "text": name, "supporting": True}]} if passages else {"context": name}
    path = documents / "questions.jsonl"
    path.write_text(json.dumps({"id": "1", "question": "When?", "answers": ["At 6."], **about}))
    with pytest.raises(RecordError, match=r"expected a text, not the name of a file"):
        list(read_qa(path, "auto"))
