"""Strict reading of the benchmarks' own files: every error names file, line and field."""

import ast
import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lit_longpo.errors import MissingFileError
from lit_longpo.files.strict_json import RecordError
from lit_longpo.ranges import MOST_TOKENS

_HALF = re.compile(r"\\ud[89a-f]", re.IGNORECASE)  # of a character, which is none without the other half


class OfficialFileError(RecordError):
    """A benchmark's file is not what it must be."""

    advice = "download the official file again"


@dataclass(frozen=True)
class Row:
    """One record and where it stands."""

    where: str
    values: Mapping[str, object]

    def text(self, name: str) -> str:
        """A field of valid text, which may be empty.

        Raises:
            OfficialFileError: it is missing, no text, or holds half a character.
        """
        value = self.values.get(name)
        if not isinstance(value, str):
            raise self.error(name, "text", value)
        self.check_whole(name, value)
        return value

    def check_whole(self, name: str, *texts: str) -> None:
        """Refuse texts of a field with half a character (a lone surrogate), at which tokenizers fail much later."""
        for text in texts:
            try:
                text.encode("utf-8")
            except UnicodeEncodeError as error:
                raise self.error(name, "valid Unicode text", text) from error

    def optional_text(self, name: str) -> str | None:
        """A field of text that may be null or absent."""
        return None if self.values.get(name) is None else self.text(name)

    def choice(self, name: str, allowed: tuple[str, ...]) -> str:
        """A field that holds one of the allowed texts.

        Raises:
            OfficialFileError: it holds another.
        """
        value = self.text(name)
        if value not in allowed:
            raise self.error(name, f"one of {', '.join(allowed)}", value)
        return value

    def texts(self, name: str, *, may_be_empty: bool = False) -> tuple[str, ...]:
        """A field that holds a list of texts, with at least one entry unless it may be empty.

        Raises:
            OfficialFileError: it does not.
        """
        value = self.values.get(name)
        if (
            not isinstance(value, list)
            or not all(isinstance(item, str) for item in value)
            or not (value or may_be_empty)
        ):
            raise self.error(name, "a list of texts", value)
        self.check_whole(name, *value)
        return tuple(value)

    def count(self, name: str, at_least: int = 0, at_most: int = MOST_TOKENS) -> int:
        """A field that holds a whole number in a range, its ends included.

        Raises:
            OfficialFileError: it does not.
        """
        value = self.values.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not at_least <= value <= at_most:
            raise self.error(name, f"a whole number from {at_least:,} to {at_most:,}", value)
        return value

    def error(self, name: str, expected: str, got: object) -> OfficialFileError:
        """Error for one of this record's fields."""
        return OfficialFileError.at(self.where, f"field {name!r}", expected, got)


def read_json(path: Path, example: str) -> object:
    """Content of a JSON file.

    Raises:
        MissingFileError: there is no such file.
        OfficialFileError: it is not UTF-8 JSON.
    """
    return _decode(read_text(path, example), str(path))


def read_text(path: Path, example: str) -> str:
    """Content of a text file without a byte-order mark, line ends as they are.

    Raises:
        MissingFileError: there is no such file.
        OfficialFileError: it is not UTF-8.
    """
    _check_file(path, example)
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise OfficialFileError.at(str(path), "file", "UTF-8", str(error)) from error


def read_official_rows(path: Path, example: str) -> Iterator[Row]:
    """Records of a JSON Lines file, or of a JSON file that holds one list; blank lines are passed over.

    Raises:
        MissingFileError: there is no such file.
        OfficialFileError: a line is not a JSON object.
    """
    for where, item in _json_list(path, example) if path.suffix == ".json" else _json_lines(path, example):
        if not isinstance(item, dict):
            raise OfficialFileError.at(where, "record", "a JSON object", item)
        yield Row(where, item)


def _json_list(path: Path, example: str) -> Iterator[tuple[str, object]]:
    items = read_json(path, example)
    if not isinstance(items, list):
        raise OfficialFileError.at(str(path), "file", "a list of records", items)
    for number, item in enumerate(items, 1):
        yield f"{path}: record {number}", item


def _json_lines(path: Path, example: str) -> Iterator[tuple[str, object]]:
    """One line in memory at a time: a file of LV-Eval's 256k level has hundreds of megabytes."""
    _check_file(path, example)
    with path.open("rb") as lines:  # bytes end lines at newlines only; texts hold U+2028
        for number, raw in enumerate(lines, 1):
            if raw.strip():
                yield f"{path}:{number}", _decode(raw, f"{path}:{number}")


def _check_file(path: Path, example: str) -> None:
    if not path.is_file():
        raise MissingFileError(
            f"expected the official layout ({example}), got no file {path}; set `folder` to where it was downloaded"
        )


def _decode(text: str | bytes, where: str) -> object:
    try:
        plain = text if isinstance(text, str) else text.decode("utf-8")
        value = json.loads(plain)
        if _HALF.search(plain):  # tokenizers and files fail on it much later
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise OfficialFileError.at(where, "content", f"valid Unicode text ({error})", text) from error
    except (ValueError, RecursionError) as error:
        raise OfficialFileError.at(where, "content", f"JSON ({error})", text) from error
    return value


def parse_literals(source: str, where: str, names: Collection[str]) -> dict[str, object]:
    """Values that a Python file assigns to some names. Nothing is executed or imported.

    Raises:
        OfficialFileError: the file is not Python, or one of the values is not a literal.
    """
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise OfficialFileError.at(where, "file", f"Python ({error})", source) from error
    values: dict[str, object] = {}
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        for target in targets:
            if isinstance(target, ast.Name) and target.id in names:
                values[target.id] = _literal(node.value, f"{where}:{node.lineno}", target.id)  # type: ignore[attr-defined]
    return values


def _literal(node: ast.expr, where: str, name: str) -> object:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise OfficialFileError.at(where, name, "a literal", ast.unparse(node)) from error


def hashes(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Sha256 of files, by their path in the folder; files that are not there are left out."""
    paths = {name: folder / name for name in names}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in paths.items() if path.is_file()}


def hash_of(values: object) -> str:
    """Sha256 of values as JSON without blanks, in whatever order their objects have them."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def differences(folder: Path, official: Mapping[str, str]) -> tuple[str, ...]:
    """Files that are not the official ones, for a report.

    Args:
        folder: where they are.
        official: sha256 of each official file, by its path in the folder.
    """
    present = hashes(folder, official)
    return tuple(
        f"{name} is not the official file: sha256 {digest}, expected {official[name]}"
        for name, digest in present.items()
        if digest != official[name]
    )
