"""Reads the document that questions are about, from text files or standard input, as one context."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lit_longpo.errors import InputError, MissingFileError
from lit_longpo.files.folders import nearby
from lit_longpo.files.plain_text import NotTextError, is_blank, plain_text, read_plain

STDIN = "-"
_BETWEEN = "\n\n"  # as passages of a question are joined


@dataclass(frozen=True)
class DocumentText:
    """What is asked about."""

    name: str
    text: str


def read_document(paths: Sequence[str]) -> DocumentText:
    """The texts of some files as one document.

    Args:
        paths: UTF-8 text files; "-" is what is piped in.

    Raises:
        MissingFileError: one is not there.
        InputError: none is named, one is no text or empty, or nothing is piped in.
    """
    if not paths:
        raise InputError("expected a document to ask about, got none; type --document FILE (- reads what is piped in)")
    if paths.count(STDIN) > 1:
        raise InputError(f"expected {STDIN} once among the documents, got {paths.count(STDIN)}; name files")
    texts = [_text(path) for path in paths]
    names = ["standard input" if path == STDIN else Path(path).name for path in paths]
    return DocumentText(" + ".join(names), _BETWEEN.join(texts))


def _text(name: str) -> str:
    try:
        text = plain_text(_piped()) if name == STDIN else read_plain(_file(Path(os.path.expanduser(name))))
    except NotTextError as error:
        raise InputError(
            f"expected UTF-8 text in {name}, got {error}; turn it into a .txt file first (pdftotext, pandoc, iconv), "
            f"or pipe in text that is meant as it stands: --document {STDIN} < FILE"
        ) from error
    if is_blank(text):
        raise InputError(f"expected text in {name}, got an empty file; set --document")
    return text.strip("\n")


def _file(path: Path) -> Path:
    if path.is_dir():
        shown = (item for item in sorted(path.iterdir()) if item.is_file() and not item.name.startswith("."))
        inside = next((item.name for item in shown), "FILE")
        raise InputError(f"expected a text file, got the folder {path}; type --document {path / inside}")
    if not path.exists():
        raise MissingFileError(f"expected a document at {path.absolute()}, found none; set --document{nearby(path)}")
    return path


def _piped() -> bytes:
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError(f"expected a text piped in for --document {STDIN}, got a terminal; type: ... < FILE")
    return sys.stdin.buffer.read()
