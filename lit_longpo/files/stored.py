"""Writes this project's JSON files, and reads them back strictly, typed by dataclasses."""

import json
import math
import types
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from lit_longpo.errors import MissingFileError
from lit_longpo.files.strict_json import RecordError, instead, shortened, unique_keys

Kind = TypeVar("Kind")
_PLAIN: dict[Any, Callable[[Any], bool]] = {
    Any: lambda value: True,
    object: lambda value: True,
    type(None): lambda value: value is None,
    bool: lambda value: isinstance(value, bool),
    int: lambda value: isinstance(value, int) and not isinstance(value, bool),
    float: lambda value: isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value),
    str: lambda value: isinstance(value, str),
}
_CHECKSUM = "crc"  # of a line
_CALLED = {int: "a whole number", float: "a finite number", str: "text", bool: "true or false", type(None): "null"}


def read_stored(path: Path, kind: type[Kind], advice: str | None = None) -> Kind:
    """The content of one of our files, as an object of the given type.

    Args:
        path: of one JSON object.
        kind: dataclass whose fields it has, which may be dataclasses, too; or a `dict[str, ...]`.
        advice: what to do about a damaged one; `None` says to correct it.

    Raises:
        MissingFileError: there is no such file.
        RecordError: it is no JSON, a field is missing, unknown, or not of its type.
    """
    with instead(advice):
        return stored_as(_object(_read(path), str(path)), kind, str(path))


def plain_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as JSON would give them back: tuples become lists, unknown objects their `str`."""
    return cast(dict[str, Any], json.loads(json.dumps(dict(values), default=str)))


def write_json(path: Path, value: object, **layout: Any) -> None:
    """Write a JSON file, whole or not at all: a killed process leaves the old one.

    Args:
        path: whose folder is there. What a link or a pipe leads to (`/dev/stdout`) is written into as it stands.
        value: what JSON knows.
        layout: of `json.dumps`.

    Raises:
        ValueError, TypeError: as `json.dumps`; nothing has been written.
    """
    text = json.dumps(value, **layout) + "\n"
    if path.is_symlink() or (path.exists() and not path.is_file()):
        path.write_text(text, encoding="utf-8")
        return
    draft = path.with_name(f"{path.name}.partial")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def stored_object(path: Path, advice: str | None = None) -> dict[str, Any]:
    """The JSON object in one of our files, its fields unchecked.

    Raises:
        MissingFileError: there is no such file.
        RecordError: it is no JSON object, or holds numbers that are none.
    """
    with instead(advice):
        return _object(_read(path), str(path))


def stored_line(line: bytes, where: str) -> dict[str, Any]:
    """The JSON object in one line of one of our files, its fields unchecked.

    Raises:
        RecordError: as of `stored_object`, or it is another than was written.
    """
    return without_checksum(_object(line.strip(), where), where)  # or a break at its end would begin another line


def with_checksum(row: Mapping[str, Any]) -> dict[str, Any]:
    """An object with a checksum."""
    return {**row, _CHECKSUM: _checksum(row)}


def without_checksum(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """An object without its checksum; it may have none, as one that somebody has changed.

    Raises:
        RecordError: it is another than was written.
    """
    held = dict(row)
    checksum = held.pop(_CHECKSUM, None)
    if checksum is not None and checksum != _checksum(held):
        wanted = shortened(str(checksum))
        expected = f"what has the checksum {wanted} (take `{_CHECKSUM}` out if you have changed it yourself)"
        raise RecordError.at(where, "record", expected, _checksum(held))
    return held


def line_of(row: Mapping[str, Any], *, ascii_only: bool = False) -> bytes:
    """An object as a line with a checksum, so that a changed bit is noticed.

    Args:
        row: what `stored_line` will give back.
        ascii_only: other characters are written as numbers; needed where a text may be no valid Unicode.
    """
    # Half a character is written as JSON writes any as a number.
    line = json.dumps(with_checksum(row), ensure_ascii=ascii_only)
    return f"{line}\n".encode("utf-8", "backslashreplace")


def _checksum(row: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(row).encode()):08x}"


def stored_as(value: Mapping[str, Any], kind: type[Kind], where: str) -> Kind:
    """A JSON object as what it is of.

    Raises:
        RecordError: a field is missing, unknown, or not of its type.
    """
    try:
        return cast(Kind, _made(value, kind, ""))
    except _Mismatch as mismatch:
        raise mismatch.refused(where) from None


def check_fields(
    value: Mapping[str, Any], needed: Mapping[str, Any], where: str, optional: Mapping[str, Any] | None = None
) -> None:
    """Refuse a JSON object for some of its fields, whatever others it has.

    Raises:
        RecordError: one of them is missing, or not of its type.
    """
    try:
        for name, hint in {**needed, **(optional or {})}.items():
            if name in value:
                _made(value[name], hint, name)
            elif name in needed:
                raise _Mismatch(name, "to be there", sorted(value))
    except _Mismatch as mismatch:
        raise mismatch.refused(where) from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise MissingFileError(f"expected a file at {path}, found none; correct the path") from error
    except OSError as error:
        raise RecordError.at(str(path), "file", "one that can be read", str(error)) from error


def _object(raw: bytes, where: str) -> dict[str, Any]:
    """The fields of one JSON object; numbers that are none are refused, too."""
    try:
        text = raw.decode("utf-8")
        value = json.loads(text, object_pairs_hook=unique_keys(where), parse_constant=_no_number(where))
    except RecordError:
        raise
    except (ValueError, RecursionError) as error:
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) and error.lineno > 1 else ""
        raise RecordError.at(f"{where}{line}", "record", f"UTF-8 JSON ({error})", raw[:60]) from error
    if not isinstance(value, dict):
        raise RecordError.at(where, "record", "a JSON object", value)
    return value


@dataclass
class _Mismatch(Exception):
    """A value that is not of its declared type."""

    name: str
    expected: str
    got: Any

    def refused(self, where: str) -> RecordError:
        return RecordError.at(where, f"field {self.name!r}" if self.name else "record", self.expected, self.got)


def _instance(value: Any, kind: Any, name: str) -> Any:
    """A dataclass; `name` is what holds it, empty for the whole file."""
    if not isinstance(value, Mapping):
        raise _Mismatch(name, "a JSON object", value)
    hints, known = _types(kind), {item.name: item for item in fields(kind) if item.init}
    inside = f"{name}." if name else ""
    for unknown in sorted(set(value) - set(known)):
        raise _Mismatch(f"{inside}{unknown}", f"one of {', '.join(known)}", value[unknown])
    for item in known.values():
        if item.name not in value and item.default is MISSING and item.default_factory is MISSING:
            raise _Mismatch(f"{inside}{item.name}", "to be there", sorted(value))
    return kind(**{part: _made(value[part], hints[part], f"{inside}{part}") for part in known if part in value})


@cache  # rows of one kind come by the hundred thousand
def _types(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _made(value: Any, hint: Any, name: str) -> Any:
    """A value of its type: lists become tuples, and objects dataclasses, where the type says so."""
    origin, inside = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _one_of(value, hint, name)
    if is_dataclass(hint):
        return _instance(value, hint, name)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise _Mismatch(name, "a JSON object", value)
        return {key: _made(item, inside[1], f"{name}.{key}" if name else key) for key, item in value.items()}
    if isinstance(origin, type) and issubclass(origin, Sequence):
        if not isinstance(value, list | tuple):
            raise _Mismatch(name, "a list", value)
        items = [_made(item, inside[0], f"{name}[{number}]") for number, item in enumerate(value)]
        return tuple(items) if origin is tuple else items
    if not (value in inside if origin is Literal else _PLAIN[hint](value)):
        raise _Mismatch(name, _called(hint), value)
    return value


def _one_of(value: Any, hint: Any, name: str) -> Any:
    """A value of the first type that it fits; what is wrong inside a list or an object is said by its name."""
    deepest: _Mismatch | None = None
    for choice in get_args(hint):
        try:
            return _made(value, choice, name)
        except _Mismatch as mismatch:
            deepest = mismatch if mismatch.name != name else deepest
    raise deepest or _Mismatch(name, _called(hint), value)


def _called(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(map(_called, get_args(hint)))
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, get_args(hint)))}"
    kind = get_origin(hint) or hint
    if kind in (list, tuple, Sequence):
        return "a list"
    if issubclass(kind, Mapping):
        return "a JSON object"
    return _CALLED.get(hint, kind.__name__)


def _no_number(where: str) -> Callable[[str], Any]:
    def refuse(text: str) -> Any:
        raise RecordError.at(where, "record", "finite numbers", text)

    return refuse
