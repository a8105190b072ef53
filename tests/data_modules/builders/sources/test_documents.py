"""Documents from files and folders; what is no document is said, not left out."""

import json

import pytest

from data_modules.builders.sources.base import Document, Unreadable, content_hash
from data_modules.builders.sources.documents import DocumentFiles, clip, document_files, read_documents


def write(folder):
    (folder / "sub").mkdir()
    (folder / "b.txt").write_text("\ufeffA book.\n", encoding="utf-8")
    (folder / "sub" / "a.md").write_text("# Title\n")
    (folder / "c.jsonl").write_text(json.dumps({"id": "x", "text": "one"}) + "\nnot json\n" + json.dumps({"text": " "}))
    (folder / "d.pdf").write_bytes(b"%PDF")
    (folder / "e.txt").write_bytes(b"\xff\xfe")
    (folder / "f.txt").write_text("  \n")
    (folder / "g.txt").write_bytes("Ada".encode("utf-16-le"))
    (folder / ".hidden").write_text("not looked at")


def test_a_folder_gives_every_document_and_every_problem(tmp_path):
    write(tmp_path)
    found = list(read_documents(document_files(str(tmp_path))))
    assert [item for item in found if isinstance(item, Document)] == [
        Document("b.txt", "A book.\n"),
        Document("x", "one"),
        Document("a.md", "# Title\n"),
    ]
    problems = {item.id: item.error for item in found if isinstance(item, Unreadable)}
    assert problems.keys() == {"c.jsonl:2", "c.jsonl:3", "d.pdf", "e.txt", "f.txt", "g.txt"}
    assert "UTF-8" in problems["e.txt"]
    assert ".txt, .md, .jsonl" in problems["d.pdf"]


def test_files_of_one_name_are_documents_of_their_own(tmp_path):
    """The later ones were left out as ids used twice (as in llama_index#22327)."""
    for name in ("a/README.md", "b/README.md", "a/x.txt", "a/c.jsonl", "b/c.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps({"text": name}))
    found = list(read_documents(document_files(str(tmp_path))))
    assert {item.id for item in found if isinstance(item, Document)} == {
        *("a/README.md", "b/README.md", "x.txt", "a/c.jsonl:1", "b/c.jsonl:1")
    }
    assert len(found) == 5


def test_an_id_used_twice_is_said(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": "x", "text": "one"}\n{"id": "x", "text": "two"}\n')
    first, second = read_documents(document_files(str(tmp_path)))
    assert first == Document("x", "one")
    assert isinstance(second, Unreadable)
    assert "a.jsonl:1" in second.error


def test_nothing_there_says_what_to_set(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"source\.init_args\.path"):
        document_files(str(tmp_path / "missing"))


def test_header_and_footer_go():
    text = "licence\n*** START OF IT ***\nThe text.\n*** END OF IT ***\nmore"
    assert clip(text, r"\*\*\* START", r"\*\*\* END") == "The text."
    with pytest.raises(ValueError, match="expected a match"):
        clip(text, "never there", None)


def test_the_hash_follows_the_content_not_the_name(tmp_path):
    for name, content in (("a", "x"), ("b", "x"), ("c", "y")):
        (tmp_path / name).write_text(content)
    a, b, c = (content_hash([tmp_path / name]) for name in "abc")
    assert a == b != c


class Words:
    """Counts words where a tokenizer would count tokens."""

    def count(self, text):
        return len(text.split())


def test_a_document_that_fits_stays_whole(tmp_path):
    """Manuals with headings were cut in halves, however short they were: long contexts had half of their length."""
    manual = "\n\n".join(f"## {number} Safety\n\nSwitch it off before you open it." for number in range(8))
    (tmp_path / "manual.md").write_text(manual)
    assert list(DocumentFiles(str(tmp_path), document_tokens=80).items(Words())) == [Document("manual.md", manual)]
    parts = list(DocumentFiles(str(tmp_path), document_tokens=79).items(Words()))
    assert len(parts) > 1
    assert "\n\n".join(part.text for part in parts) == manual
