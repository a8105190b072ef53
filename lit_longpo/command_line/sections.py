"""Sections and values of a configuration in whose place something came that nothing can be made of."""

from argparse import _StoreTrueAction
from collections.abc import Iterator
from dataclasses import is_dataclass
from types import NoneType
from typing import Any, get_args

from jsonargparse import ArgumentParser, Namespace
from jsonargparse._actions import _ActionConfigLoad
from jsonargparse._subcommands import find_action, is_branch_key
from jsonargparse._util import import_object

from lit_longpo.arguments import Arguments, arguments_of, takes_null

_PLAIN = bool | int | float | str | list | None


def lost_sections(parser: ArgumentParser, values: Namespace) -> Iterator[tuple[str, Any]]:
    """Sections that are null or one value, and what they are; jsonargparse takes both until the class is made.

    A section that may be null is none to jsonargparse, and is not looked at.
    """
    for name in parser.groups or ():
        if name in values and isinstance(values[name], _PLAIN):
            yield name, values[name]
    yield from _lost_in_classes(values)


def fill_unknown_sections(parser: ArgumentParser, values: Namespace | dict[str, Any], prefix: str = "") -> None:
    """Make unknown sections that are empty null, in place: jsonargparse sees values alone, and would drop them.

    Args:
        parser: whose options and groups are known.
        values: as a file has them, before they are checked.
        prefix: the section they are of, with a dot behind it.
    """
    content = vars(values) if isinstance(values, Namespace) else values
    for name, value in content.items():
        action = find_action(parser, f"{prefix}{name}")
        if not isinstance(value, Namespace | dict) or not isinstance(action, NoneType | _ActionConfigLoad):
            continue  # of another type or class, which looks at its own
        if value:
            fill_unknown_sections(parser, value, f"{prefix}{name}.")
        elif action is None and not is_branch_key(parser, f"{prefix}{name}"):
            content[name] = None


def strange_switches(parser: ArgumentParser, values: Namespace) -> Iterator[tuple[str, Any]]:
    """Options typed alone, as `--shard`, that have another value than true or false in a file, and that value."""
    for action in parser._actions:
        if isinstance(action, _StoreTrueAction) and not isinstance(value := values.get(action.dest), bool):
            yield action.dest, value.as_dict() if isinstance(value, Namespace) else value


def null_values(parser: ArgumentParser, values: Namespace) -> Iterator[str]:
    """What is null and may not be: jsonargparse lets it pass, whatever the type."""
    for action in parser._actions:
        hint = getattr(action, "_typehint", Any)
        if action.dest in values and values[action.dest] is None and _refuses_null(hint, action.default):
            yield action.dest
    for where, path, settings in _classes(values, ""):
        yield from _nulls(_arguments_at(path), settings, where)


def _nulls(arguments: Arguments, settings: Namespace, prefix: str) -> Iterator[str]:
    """The same in the arguments of a class, and in data classes among them."""
    for name, (hint, default) in arguments.items():
        value = vars(settings).get(name, default)
        if value is None and _refuses_null(hint, default):
            yield f"{prefix}{name}"
        inner: Any = next(filter(is_dataclass, (hint, *get_args(hint))), None)
        if isinstance(value, Namespace) and "class_path" not in value and inner is not None:
            yield from _nulls(arguments_of(inner), value, f"{prefix}{name}.")


def _refuses_null(hint: Any, default: object) -> bool:
    """Whether a type leaves `None` out; where that is the default all the same, the type says too little."""
    return default is not None and not takes_null(hint)


def _classes(values: object, prefix: str) -> Iterator[tuple[str, str, Namespace]]:
    """Every class that is named somewhere in `values`: where its arguments stand, its path, and they."""
    if isinstance(values, list):
        for number, value in enumerate(values):
            yield from _classes(value, f"{prefix[:-1]}[{number}].")
    if not isinstance(values, Namespace):
        return
    settings = values.get("init_args")
    if isinstance(settings, Namespace) and isinstance(path := values.get("class_path"), str):
        yield f"{prefix}init_args.", path, settings
    for name, value in vars(values).items():
        yield from _classes(value, f"{prefix}{name}.")


def _lost_in_classes(values: object) -> Iterator[tuple[str, Any]]:
    """Sections in the settings of every class that is named somewhere in `values`."""
    for where, path, settings in _classes(values, ""):
        plain = {name: value for name, value in vars(settings).items() if isinstance(value, _PLAIN)}
        if plain:
            for name in plain.keys() & _sections(path):
                yield f"{where}{name}", plain[name]


def _sections(path: str) -> set[str]:
    """Arguments of a class, its bases' included, that are settings of a data class and nothing else."""
    return {name for name, (hint, _) in _arguments_at(path).items() if is_dataclass(hint)}


def _arguments_at(path: str) -> Arguments:
    """What the class at a path takes."""
    try:
        made_by = import_object(path)
    except (ValueError, ImportError, AttributeError):  # no class to jsonargparse either, where it is to be one
        return {}
    return arguments_of(made_by) if isinstance(made_by, type) else {}  # a function may stand for a class, too
