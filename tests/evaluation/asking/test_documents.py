import io
import sys

import pytest

from evaluation.asking.documents import read_document
from lit_longpo.errors import InputError, message_for_user


def test_files_are_one_document_in_the_order_given(tmp_path):
    (tmp_path / "b.txt").write_bytes("\ufeffTwo.\n".encode())
    (tmp_path / "a.md").write_text("  One: \u00fc.\n\n")
    found = read_document([str(tmp_path / "b.txt"), str(tmp_path / "a.md")])
    assert (found.name, found.text) == ("b.txt + a.md", "Two.\n\n  One: \u00fc.")


def test_what_is_piped_in_is_read(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Piped.\n")))
    assert read_document(["-"]).text == "Piped."


def test_lines_end_as_build_reads_them(tmp_path):
    """A text from Windows was asked about with carriage returns, on which no model from `build` was trained."""
    path = tmp_path / "book.txt"
    path.write_bytes(b"One.\r\n\r\nTwo.\rThree.\n\r\n")
    assert read_document([str(path)]).text == path.read_text().strip("\n") == "One.\n\nTwo.\nThree."


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b" \n\t\n", "expected text in .*, got an empty file; set --document"),
        (b"%PDF-1.7 \xe2\xe3", "expected UTF-8 text in .*, got byte 0xe2 at 9; .*pdftotext"),
        ("Text".encode("utf-16-le"), "expected UTF-8 text in .*, got a zero byte"),
    ],
)
def test_what_is_no_text_is_refused_in_one_line(tmp_path, content, said):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=said) as caught:
        read_document([str(path)])
    assert "\n" not in str(message_for_user(caught.value))


@pytest.mark.parametrize(
    ("name", "got"),
    [
        *(("page.html", "HTML"), ("PAGE.HTM", "HTML"), ("page.xml", "XML"), ("letter.rtf", "RTF")),
        *(("lines.jsonl", "JSON Lines"), ("lines.ndjson", "JSON Lines"), ("notebook.ipynb", "JSON")),
    ],
)
def test_marks_of_other_formats_are_no_text(tmp_path, name, got):
    """Tags were asked about as if they stood in the document, which `build` refuses."""
    (tmp_path / name).write_text("<p>Oslo</p>")
    with pytest.raises(InputError, match=rf"expected UTF-8 text in .*{name}, got {got}, not the texts in it; turn it"):
        read_document([str(tmp_path / name)])


def test_nothing_folders_terminals_and_missing_files_are_refused(tmp_path, monkeypatch):
    for name in ("inside.txt", ".DS_Store"):
        (tmp_path / name).write_text("x")
    monkeypatch.setattr(sys, "stdin", None)
    for paths, said in (
        ([], r"got none; type --document FILE"),
        ([str(tmp_path)], rf"got the folder {tmp_path}; type --document {tmp_path}/inside.txt"),
        (["-"], "got a terminal"),
        (["-", "-"], "expected - once"),
    ):
        with pytest.raises(ValueError, match=said):
            read_document(paths)
    for gone in (str(tmp_path / "gone.txt"), "~nobody-of-this-name/gone.txt"):
        with pytest.raises(FileNotFoundError, match=r"found none; set --document"):
            read_document([gone])
