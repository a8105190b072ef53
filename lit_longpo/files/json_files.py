"""JSON values of a file with the line that each begins on: JSON Lines, or one list; packed with gzip or not."""

import gzip
import json
import re
import shlex
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from lit_longpo.errors import error_text
from lit_longpo.files.strict_json import RecordError, decode_json, instead, unique_keys

Rows = Iterator[tuple[str, object]]

_BOM = b"\xef\xbb\xbf"
_SPACE = " \t\r\n"  # what JSON takes for nothing; Python strips more
_SPACE_BYTES = _SPACE.encode()
# How files begin that hold something else than a record a line, and what to do with them.
_OTHER_FILES: tuple[tuple[bytes, str], ...] = (
    (rb"\[", "this is a list, so give the file a name that ends in {json}"),
    (rb"\{\s*(\"[^\"]*\"\s*:\s*[\[{]?\s*)?$", "records go over several lines, so type: {read} | jq -c . > lines.jsonl"),
    (rb"\{.*\}\s*,\s*$", "take out the comma behind each line, or put [ and ] around all and name the file {json}"),
    (rb"\xff\xfe|\xfe\xff", "this is UTF-16, so type: {read} | iconv -f utf-16 -t utf-8 > lines.jsonl"),
    (rb"\x1f\x8b", "this is packed, so give the file a name that ends in .gz"),
    (rb"<", "this is a web page, so download the file itself"),
    (rb"version https://git-lfs", "this only says where the data lie, so type: git lfs pull"),
)


def json_lines(path: str | Path) -> Rows:
    """One JSON value a line; a byte order mark in front and empty lines are nothing.

    Raises:
        RecordError: a line is no JSON; or the file is one list.
    """
    for place, (number, text) in enumerate(numbered_lines(path)):
        where = f"{path}:{number}"
        with instead(_as_other_file(text, path) if place == 0 else None):
            if place == 0 and text.lstrip(_SPACE_BYTES).startswith(b"["):
                raise RecordError.at(where, "record", "one JSON object a line", text)
            value = decode_json(text, where)
        yield where, value


def _as_other_file(first_line: bytes, path: str | Path) -> str | None:
    """What to do with a file that is of another kind by its first line; nothing if it is none that we know."""
    begins = first_line.lstrip(_SPACE_BYTES)
    advices = [advice for start, advice in _OTHER_FILES if re.match(start, begins, re.DOTALL)]
    packed = str(path).endswith(".gz")
    read = f"{'gzip -dc' if packed else 'cat'} {shlex.quote(str(path))}"
    return advices[0].format(read=read, json=".json.gz" if packed else ".json") if advices else None


def numbered_lines(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """The lines with their numbers from 1 on, without a mark of the byte order in front and without empty ones."""
    with _opened(path) as file:
        for number, line in enumerate(_unpacked(file, path), 1):
            text = line.removeprefix(_BOM) if number == 1 else line
            if text.strip(_SPACE_BYTES):
                yield number, text


def json_list(path: str | Path) -> Rows:
    """The values of one JSON list, each with the line it begins on; one object; or, of any other file, its lines."""
    with _opened(path) as file:
        raw = b"".join(_unpacked(file, path)).removeprefix(_BOM)
    if not raw.lstrip(_SPACE_BYTES).startswith(b"["):
        yield from _one_object(raw, path) or json_lines(path)
        return
    yield from _list_items(_text(raw, f"{path}:1"), str(path))


def _one_object(raw: bytes, path: str | Path) -> list[tuple[str, object]]:
    """The record that the whole file is, over several lines; nothing if it is another file."""
    if b"\n" not in raw.strip(_SPACE_BYTES):
        return []
    try:
        json.loads(raw)
    except (ValueError, RecursionError):  # lines; what is wrong with one of them is said with its number
        return []
    return [(f"{path}:1", decode_json(raw, f"{path}:1"))]


def _opened(path: str | Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if str(path).endswith(".gz") else open(path, "rb")


def _unpacked(file: IO[bytes], path: str | Path) -> Iterator[bytes]:
    """The lines of a file that may be packed."""
    try:
        yield from file
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise RecordError.at(str(path), "file", "a whole gzip file", error_text(error)) from error


def _text(raw: bytes, where: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecordError.at(where, "record", f"UTF-8 JSON ({error})", raw[error.start : error.start + 20]) from error


def _list_items(text: str, path: str) -> Rows:
    """Items of a list, one after the other, each by the line it begins on; several on one line are numbered."""
    start = text.index("[")
    line, seen, number = 1 + text.count("\n", 0, start), start, 0
    position, last_line = _past_space(text, start + 1), 0
    if text[position : position + 1] == "]":
        _check_end(text, position, path)
        return
    while True:
        line, seen, number = line + text.count("\n", seen, position), position, number + 1
        where = f"{path}:{line}" if line != last_line else f"{path}:{line}, item {number}"
        value, position = _item(text, position, where)
        yield where, value
        last_line, position = line, _past_space(text, position)
        if text[position : position + 1] == "]":
            _check_end(text, position, where)
            return
        if text[position : position + 1] != ",":
            raise RecordError.at(where, "record", "a comma or the list's end behind it", text[position : position + 20])
        position = _past_space(text, position + 1)


def _item(text: str, position: int, where: str) -> tuple[object, int]:
    try:
        return json.JSONDecoder(object_pairs_hook=unique_keys(where)).raw_decode(text, position)
    except RecordError:
        raise
    except (ValueError, RecursionError) as error:
        raise RecordError.at(where, "record", f"JSON ({error})", text[position : position + 60]) from error


def _check_end(text: str, position: int, where: str) -> None:
    if rest := text[position + 1 :].strip(_SPACE):
        raise RecordError.at(where, "file", "nothing behind the list", rest)


def _past_space(text: str, position: int) -> int:
    while position < len(text) and text[position] in _SPACE:
        position += 1
    return position
