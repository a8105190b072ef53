"""Raw documents from text, Markdown and JSONL files and folders of them."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_modules.records import RecordError, check_text, decode_json

SUFFIXES = (".txt", ".md", ".jsonl")


@dataclass(frozen=True)
class Document:
    """A text without questions.

    Args:
        id: where it comes from; unique in its source.
        text: all of it.
    """

    id: str
    text: str


@dataclass(frozen=True)
class Unreadable:
    """Input that is no document; it ends as failed in the report, it does not end the build.

    Args:
        id: where it lies.
        error: what was expected and what came.
    """

    id: str
    error: str


def document_files(path: str, argument: str = "source.init_args.path") -> list[Path]:
    """The file, or every file of a folder and its subfolders in alphabetical order.

    Files of other kinds are listed too: reading them says that they are not understood.

    Raises:
        FileNotFoundError: there is nothing at `path`.
    """
    where = Path(path)
    files = [where] if where.is_file() else sorted(item for item in where.rglob("*") if item.is_file())
    files = [file for file in files if not file.name.startswith(".")]
    if not files:
        raise FileNotFoundError(
            f"expected a {', '.join(SUFFIXES)} file or a folder of them at {str(where.absolute())!r}, found none; "
            f"set `{argument}`"
        )
    return files


def read_documents(files: list[Path], text_field: str = "text") -> Iterator[Document | Unreadable]:
    """One document of every text file, one of every line of a JSONL file.

    Args:
        files: in the order wanted.
        text_field: field of a JSONL line that holds the text; an `id` field is taken if there is one.
    """
    seen = dict[str, str]()
    for file in files:
        for where, value in _read(file, text_field):
            if isinstance(value, Document) and value.id in seen:
                yield Unreadable(where, f"expected an id not used before (see {seen[value.id]}), got {value.id!r}")
                continue
            seen[value.id] = where
            yield value


def clip(text: str, start_after: str | None, end_before: str | None) -> str:
    """What stands between two lines, for example the licence header and footer of an electronic book.

    Args:
        text: a document.
        start_after: regular expression; everything up to the end of its first match's line goes.
        end_before: regular expression; everything from its first later match on goes.

    Raises:
        ValueError: an expression matches nowhere.
    """
    for pattern, before in ((start_after, True), (end_before, False)):
        if pattern is None:
            continue
        found = re.search(rf"(?:{pattern}).*\n?" if before else pattern, text)
        if found is None:
            raise ValueError(f"expected a match of {pattern!r} in the document, got none; set it to null or correct it")
        text = text[found.end() :] if before else text[: found.start()]
    return text.strip("\n")


def content_hash(files: list[Path]) -> str:
    """Hash of the files' bytes in order (32 hex digits); names do not count."""
    digest = hashlib.sha256()
    for file in files:
        with open(file, "rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()[:32]


def _read(file: Path, text_field: str) -> Iterator[tuple[str, Document | Unreadable]]:
    if file.suffix == ".jsonl":
        with open(file, "rb") as lines:
            for number, line in enumerate(lines, 1):
                where = f"{file.name}:{number}"
                yield where, _of_line(line, where, text_field)
    else:
        yield file.name, _of_file(file)


def _of_file(file: Path) -> Document | Unreadable:
    if file.suffix not in SUFFIXES:
        return Unreadable(file.name, f"expected a file ending in {', '.join(SUFFIXES)}, got {file.suffix or 'none'!r}")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        return Unreadable(file.name, f"expected UTF-8 text, got {error}; convert the file")
    return Document(file.name, text) if text.strip() else Unreadable(file.name, "expected text, got an empty file")


def _of_line(line: bytes, where: str, text_field: str) -> Document | Unreadable:
    try:
        row = decode_json(line, where)
        if not isinstance(row, dict):
            raise RecordError.at(where, "record", "a JSON object", row)
        identifier = check_text(str(row.get("id", where)), "id", where)
        return Document(identifier, check_text(row.get(text_field), text_field, where))
    except RecordError as error:
        return Unreadable(where, str(error))
