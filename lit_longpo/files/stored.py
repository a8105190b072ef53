"""Files that this project has written, read back strictly: what is not of a field's type is refused by its name."""

import json
import math
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from lit_longpo.files.strict_json import RecordError, unique_keys

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


def read_stored(path: Path, kind: type[Kind]) -> Kind:
    """What a file of ours holds.

    Args:
        path: of one JSON object.
        kind: dataclass whose fields it has.

    Raises:
        RecordError: it is no JSON, a field is missing, unknown, or not of its type.
    """
    where = str(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise RecordError.at(where, "file", "one that can be read", str(error)) from error
    return _checked(_object(raw, where), kind, where)


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


def _checked(value: Mapping[str, Any], kind: type[Kind], where: str) -> Kind:
    """A dataclass from the fields of a JSON object."""
    hints = get_type_hints(kind)
    known = {item.name: item for item in fields(kind)}  # type: ignore[arg-type]
    if strangers := sorted(set(value) - set(known)):
        raise RecordError.at(where, f"field {strangers[0]!r}", f"one of {', '.join(known)}", value[strangers[0]])
    for name, item in known.items():
        if name not in value:
            if item.default is MISSING and item.default_factory is MISSING:
                raise RecordError.at(where, f"field {name!r}", "to be there", sorted(value))
        elif (odd := next(_odd(value[name], hints[name], name), None)) is not None:
            raise RecordError.at(where, f"field {odd[0]!r}", odd[1], odd[2])
    return kind(**value)


def _odd(value: Any, hint: Any, name: str) -> Iterator[tuple[str, str, Any]]:
    """What is not of its type: its name, the type in words, the value."""
    origin, inside = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if all(any(_odd(value, choice, name)) for choice in inside):
            yield name, _called(hint), value
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            yield name, "a JSON object", value
            return
        for key, item in value.items():
            yield from _odd(item, inside[1], f"{name}.{key}")
    elif isinstance(origin, type) and issubclass(origin, Sequence):
        if not isinstance(value, list | tuple):
            yield name, "a list", value
            return
        for number, item in enumerate(value):
            yield from _odd(item, inside[0], f"{name}[{number}]")
    elif not is_dataclass(hint) and not _PLAIN[hint](value):
        yield name, _called(hint), value


def _called(hint: Any) -> str:
    names = {int: "a whole number", float: "a finite number", str: "text", bool: "true or false"}
    return names.get(hint) or str(hint)


def _no_number(where: str) -> Callable[[str], Any]:
    def refuse(text: str) -> Any:
        raise RecordError.at(where, "record", "finite numbers", text)

    return refuse
