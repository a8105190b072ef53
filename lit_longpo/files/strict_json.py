"""Strict reading of JSON records: errors name file, line and field."""

import difflib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar, Self

from lit_longpo.errors import InputError
from lit_longpo.files.plain_text import is_blank

_SHOWN = 120  # characters of a value or name


class RecordError(InputError):
    """A stored record is not what it must be; the message names file, line, field, expected and got.

    Attributes:
        advice: what to do about it, with which the message ends.
    """

    advice: ClassVar[str] = "correct the file, nothing is skipped"

    @classmethod
    def at(cls, where: str, name: str, expected: str, got: object) -> Self:
        """Error for one field.

        Args:
            where: file and line, e.g. `pairs.jsonl:12`.
            name: the field, or `record` when the whole line is meant.
            expected: in words.
            got: the offending value; shortened in the message.
        """
        return cls(f"{where}: {shortened(name)}: expected {expected}, got {shortened(repr(got))}; {cls.advice}")


def shortened(text: str) -> str:
    """A text of a file in a form fit for a one-line error: printable, and not too long."""
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


@contextmanager
def instead(advice: str | None) -> Iterator[None]:
    """Inside the block, errors about records end with another advice than to correct the file.

    Args:
        advice: what to do instead, for files that nobody writes by hand; `None` changes nothing.

    Raises:
        RecordError: the error raised inside, with this advice.
    """
    try:
        yield
    except RecordError as error:
        if advice is None:
            raise
        raise type(error)(f"{str(error).removesuffix(error.advice)}{advice}") from error


def decode_json(raw: bytes | str, where: str) -> object:
    """Value of one JSON text.

    Raises:
        RecordError: not UTF-8, not JSON, or a key given twice.
    """
    try:
        text = raw.decode("utf-8") if isinstance(raw, bytes) else raw
        return json.loads(text, object_pairs_hook=unique_keys(where))
    except RecordError:
        raise
    except (ValueError, RecursionError) as error:
        raise RecordError.at(where, "record", f"UTF-8 JSON ({error})", raw) from error


def unique_keys(where: str) -> Callable[[list[tuple[str, object]]], dict[str, object]]:
    """A hook of `json.loads` (`object_pairs_hook`) that raises RecordError for an object with a key given twice."""

    def unique(items: list[tuple[str, object]]) -> dict[str, object]:
        if len(dict(items)) < len(items):
            raise RecordError.at(where, "record", "each field once", [key for key, _ in items])
        return dict(items)

    return unique


def check_text(value: object, name: str, where: str, *, blank: bool = False) -> str:
    """The value, if it is text that can be encoded and is not blank (which `blank` allows).

    Raises:
        RecordError: it is not.
    """
    if not isinstance(value, str) or (is_blank(value) and not blank):
        raise RecordError.at(where, f"field {name!r}", "text" if blank else "text that is not empty", value)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:  # a lone surrogate; the tokenizer would fail on it much later
        raise RecordError.at(where, f"field {name!r}", "valid Unicode text", value) from error
    return value


def check_texts(value: object, name: str, where: str, *, blank: bool = False) -> tuple[str, ...]:
    """The values, if they are a list of texts that pass `check_text`.

    Raises:
        RecordError: they are not.
    """
    if not isinstance(value, list | tuple):
        raise RecordError.at(where, f"field {name!r}", "a list of texts", value)
    return tuple(check_text(item, f"{name}[{i}]", where, blank=blank) for i, item in enumerate(value))


def refuse_misspelt(record: Mapping[str, object], names: Iterable[str], where: str) -> None:
    """Refuse an unknown field whose name resembles a known one that the record lacks: it would not be read.

    Args:
        record: that may have further fields.
        names: of the fields that are read; `a|b` are two names of one.
        where: file and line, for the error.
    """
    fields = [name.split("|") for name in names]
    lacking = [name for field in fields if not set(field) & set(record) for name in field if name != "id"]  # "idx"
    known = {name for field in fields for name in field}
    for name in map(str, record):
        near = difflib.get_close_matches(name.lower().replace("-", "_"), lacking, n=1, cutoff=0.8)
        if near and name not in known:
            raise RecordError.at(where, f"field {name!r}", f"{near[0]!r}, which is the name that is read", record[name])
