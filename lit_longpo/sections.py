"""Sections of a configuration in whose place something came that no class can be made of."""

import inspect
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any, get_type_hints

from jsonargparse import ArgumentParser, Namespace
from jsonargparse._util import import_object

_PLAIN = bool | int | float | str | list | None


def lost_sections(parser: ArgumentParser, values: Namespace) -> Iterator[tuple[str, Any]]:
    """Sections that are null or one value, and what they are; jsonargparse takes both until the class is made.

    A section that may be null is none to jsonargparse, and is not looked at.

    Args:
        parser: whose groups are sections.
        values: as parsed.
    """
    for name in parser.groups or ():
        if name in values and isinstance(values[name], _PLAIN):
            yield name, values[name]
    yield from _lost_in_classes(values, "")


def _lost_in_classes(values: object, prefix: str) -> Iterator[tuple[str, Any]]:
    """The same in the settings of every class that is named somewhere in `values`."""
    if isinstance(values, list):
        for number, value in enumerate(values):
            yield from _lost_in_classes(value, f"{prefix[:-1]}[{number}].")
    if not isinstance(values, Namespace):
        return
    settings = values.get("init_args")
    if isinstance(settings, Namespace) and isinstance(path := values.get("class_path"), str):
        plain = {name: value for name, value in vars(settings).items() if isinstance(value, _PLAIN)}
        for name in plain.keys() & _sections(path) if plain else ():
            yield f"{prefix}init_args.{name}", plain[name]
    for name, value in vars(values).items():
        yield from _lost_in_classes(value, f"{prefix}{name}.")


def _sections(path: str) -> set[str]:
    """Arguments of a class, its bases' included, that are settings of a data class and nothing else."""
    made_by = import_object(path)
    bases = inspect.getmro(made_by) if isinstance(made_by, type) else ()  # a function may stand for a class, too
    kinds = [kind for kind in bases if "__init__" in vars(kind)]
    return {name for kind in kinds for name, hint in _hints(kind).items() if is_dataclass(hint)}


def _hints(kind: type) -> dict[str, Any]:
    try:
        return get_type_hints(kind.__init__)  # type: ignore[misc]
    except (NameError, TypeError):  # names that are only there for a type checker
        return {}
