"""What a parser knows: its options, the classes that can be named in them, and what each of these takes."""

import inspect
from collections.abc import Iterator
from typing import Any, get_args

from jsonargparse import ArgumentParser


def commands_of(parser: ArgumentParser) -> dict[str, ArgumentParser]:
    """Parsers of its subcommands, by their names."""
    return getattr(parser._subcommands_action, "_name_parser_map", {})


def actions_of(parser: ArgumentParser) -> Iterator[Any]:
    """The actions of the parser and of its subcommands' parsers."""
    for action in parser._actions:
        yield action
        for subparser in getattr(action, "_name_parser_map", {}).values():
            yield from actions_of(subparser)


def option_names(parser: ArgumentParser) -> Iterator[str]:
    """Dotted names of the options."""
    for action in actions_of(parser):
        yield action.dest


def class_names(parser: ArgumentParser) -> Iterator[str]:
    """Short names of the classes that YAML can name: those below the types of the options."""
    for kind in {kind for action in actions_of(parser) for kind in _classes(getattr(action, "_typehint", None))}:
        for cls in _subclasses(kind):
            yield cls.__name__


def _classes(hint: Any) -> Iterator[type]:
    """The classes in a type, however deep in unions and lists; not Python's own."""
    if inspect.isclass(hint) and hint.__module__ != "builtins":
        yield hint
    for part in get_args(hint):
        yield from _classes(part)


def _subclasses(base: type) -> Iterator[type]:
    children: list[type] = base.__subclasses__()
    for cls in children:
        yield cls
        yield from _subclasses(cls)


def subclass_names(base: type) -> list[str]:
    """Short names of the classes that can stand where one is expected."""
    return sorted({cls.__name__ for cls in _subclasses(base) if not inspect.isabstract(cls)})


def base_arguments() -> set[str]:
    """Arguments of pairwise objectives, but for those that all have and that mean nothing in a base."""
    from lit_longpo.objectives import PairwiseModule  # objectives need Lightning, most commands' parsers do not

    arguments = {name for cls in _subclasses(PairwiseModule) for name in argument_names(cls)}
    return arguments - set(argument_names(PairwiseModule))


def argument_names(cls: type) -> list[str]:
    """Arguments of a class, those that it hands on to its parents included."""
    return ArgumentParser().add_class_arguments(cls, fail_untyped=False)


def known_options(parser: ArgumentParser) -> set[str]:
    """Dotted names of the options, and of those that the command takes for others."""
    return {*option_names(parser), *getattr(parser, "shorthands", ())}


def class_of(parser: ArgumentParser, key: str) -> type | None:
    """The class that an option wants; `None` if it wants none."""
    hints = (getattr(action, "_typehint", None) for action in actions_of(parser) if action.dest == key)
    return next((cls for hint in hints for cls in _classes(hint)), None)
