"""Raw documents from text, Markdown and JSONL files and folders of them."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_modules.builders.sources.base import Document, Source, Unreadable, content_hash
from data_modules.builders.sources.chunking import Chunking
from data_modules.builders.sources.tokens import TextTokens
from lit_longpo.errors import InputError, MissingFileError
from lit_longpo.files.folders import files_in, nearby
from lit_longpo.files.json_files import numbered_lines
from lit_longpo.files.plain_text import NotTextError, is_blank, read_plain
from lit_longpo.files.strict_json import RecordError, check_text, decode_json
from lit_longpo.ranges import MOST_TOKENS, check_numbers

SUFFIXES = (".txt", ".md", ".jsonl")


@dataclass
class DocumentFiles(Source):
    """Raw documents: a .txt, .md or .jsonl file, or a folder of them.

    Args:
        path: file or folder.
        text_field: field of a JSONL line that holds the text.
        start_after: regular expression of the line after which the text begins, e.g. a licence header.
        end_before: regular expression of what follows the text.
        document_tokens: cut longer documents into parts of at most this many tokens, at section and paragraph
            borders, each a document of its own; `None` keeps them whole.
    """

    path: str
    text_field: str = "text"
    start_after: str | None = None
    end_before: str | None = None
    document_tokens: int | None = None

    def __post_init__(self) -> None:
        check_numbers(self, "source.init_args.", document_tokens=(1, MOST_TOKENS))

    def items(self, tokens: TextTokens) -> Iterator[Document | Unreadable]:
        """Every document or part, in order."""
        for item in read_documents(document_files(self.path), self.text_field):
            if isinstance(item, Unreadable):
                yield item
                continue
            try:
                text = clip(item.text, self.start_after, self.end_before)
            except ValueError as error:
                yield Unreadable(item.id, str(error))
                continue
            yield from self._parts(item.id, text, tokens)

    def content(self) -> str:
        """Hash of the files' bytes."""
        return content_hash(document_files(self.path))

    def _parts(self, name: str, text: str, tokens: TextTokens) -> Iterator[Document | Unreadable]:
        parts = [text] if self.document_tokens is None else Chunking(self.document_tokens).split(text, tokens.count)
        if len(parts) < 2:
            yield Document(name, text)
            return
        for number, part in enumerate(parts):
            yield Document(f"{name}#{number}", part.strip())


def document_files(path: str) -> list[Path]:
    """The file, or every file of a folder and its subfolders in alphabetical order, but for hidden ones.

    Files of other kinds are listed too: reading them says that they are not understood.

    Raises:
        MissingFileError: there is nothing at `path`.
    """
    where = Path(path)
    files = files_in(where)
    if not files:
        raise MissingFileError(
            f"expected a {', '.join(SUFFIXES)} file or a folder of them at {str(where.absolute())!r}, found none; "
            f"set `source.init_args.path`{nearby(where)}"
        )
    return files


def read_documents(files: list[Path], text_field: str = "text") -> Iterator[Document | Unreadable]:
    """One document of every text file, one of every line of a JSONL file.

    Args:
        files: in the order wanted.
        text_field: field of a JSONL line that holds the text; an `id` field is taken if there is one.
    """
    places, names = dict[str, str](), _names(files)
    for file in files:
        for where, value in _read(file, names[file], text_field):
            if isinstance(value, Document) and value.id in places:
                yield Unreadable(where, f"expected an id not used before (see {places[value.id]}), got {value.id!r}")
                continue
            places[value.id] = where
            yield value


def clip(text: str, start_after: str | None, end_before: str | None) -> str:
    """What stands between two lines, for example the licence header and footer of an electronic book.

    Args:
        text: a document.
        start_after: regular expression; everything up to the end of its first match's line goes.
        end_before: regular expression; everything from its first later match on goes.

    Raises:
        InputError: an expression matches nowhere.
    """
    for pattern, before in ((start_after, True), (end_before, False)):
        if pattern is None:
            continue
        match = re.search(rf"(?:{pattern}).*\n?" if before else pattern, text)
        if match is None:
            raise InputError(f"expected a match of {pattern!r} in the document, got none; set it to null or correct it")
        text = text[match.end() :] if before else text[: match.start()]
    return text.strip("\n")


def _names(files: list[Path]) -> dict[Path, str]:
    """By which files are known: their own, with folders where several have it (llama_index#22327)."""
    counts = Counter(file.name for file in files)
    common = os.path.commonpath([file.parent for file in files]) if files else ""
    return {file: file.name if counts[file.name] == 1 else file.relative_to(common).as_posix() for file in files}


def _read(file: Path, name: str, text_field: str) -> Iterator[tuple[str, Document | Unreadable]]:
    if file.suffix.lower() == ".jsonl":
        for number, line in numbered_lines(file):
            where = f"{name}:{number}"
            yield where, _of_line(line, where, text_field)
    else:
        yield name, _of_file(file, name)


def _of_file(file: Path, name: str) -> Document | Unreadable:
    if file.suffix.lower() not in SUFFIXES:
        return Unreadable(name, f"expected a file ending in {', '.join(SUFFIXES)}, got {file.suffix or 'none'!r}")
    try:
        text = read_plain(file)
    except NotTextError as error:
        return Unreadable(name, f"expected UTF-8 text, got {error}; convert the file")
    return Unreadable(name, "expected text, got an empty file") if is_blank(text) else Document(name, text)


def _of_line(line: bytes, where: str, text_field: str) -> Document | Unreadable:
    try:
        row = decode_json(line, where)
        if not isinstance(row, dict):
            raise RecordError.at(where, "record", "a JSON object", row)
        own = row.get("id")
        identifier = check_text(where if own is None else str(own), "id", where)
        return Document(identifier, check_text(row.get(text_field), text_field, where))
    except RecordError as error:
        return Unreadable(where, str(error))
