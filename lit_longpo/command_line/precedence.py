"""Decides what wins on the command line: typed values over files, and a new class's defaults over an old one's values.

It also keeps a typed text a text, and reads numbers as decimal ones. jsonargparse has no public hooks for the last
three, so private parts of it are patched while arguments are parsed.
"""

import logging
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import jsonargparse._typehints
import yaml
from jsonargparse import Namespace
from jsonargparse._loaders_dumpers import get_yaml_default_loader
from jsonargparse._util import NestedArg

from lit_longpo.files.plain_yaml import OTHER_BASE

log = logging.getLogger(__name__)

_OPTION = re.compile(r"--\w|-[hc]$")  # not a negative number
_NEGATIVE = re.compile(r"-(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$|-\.?(inf|nan)$", re.IGNORECASE)
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_NULLS = ("null", "~")
_READ = "parse_value_or_config"
_DISCARD = "discard_init_args_on_class_path_change"


def typed_last(words: Sequence[str], commands: Container[str] = ()) -> list[str]:
    """The words in another order: configuration files first, then typed options; the later of two equals wins.

    A class or section comes before what is set inside it.

    Words up to one of the commands stay where they are.
    """
    start = next((number + 1 for number, word in enumerate(words) if word in commands), 0)
    options = options_of(words[start:])
    files = [option for option in options if _is_file(option)]
    typed = _outer_first([option for option in options if not _is_file(option)])
    return [*words[:start], *(word for option in (*files, *typed) for word in option)]


def with_negative_values(words: Sequence[str]) -> list[str]:
    """The words, negative numbers joined to their options with `=`: argparse takes `-1e-4` for an option."""
    joined: list[str] = []
    for word in words:
        if joined and _NEGATIVE.match(word) and joined[-1].startswith("--") and "=" not in joined[-1]:
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


@contextmanager
def own_defaults() -> Iterator[None]:
    """Inside the block, a class that replaces another starts from its own defaults.

    jsonargparse would keep the old class's values for arguments of the same name.
    """
    known: set[str] = set()
    keep_names = getattr(jsonargparse._typehints, _DISCARD)

    def discard(parser: Any, before: Any, after: Any) -> None:
        # Names are all that is asked for: bitsandbytes' optimizers, for example, give their arguments no types.
        options = {**getattr(parser, "sub_add_kwargs", {}), "fail_untyped": False}
        with patch.object(parser, "sub_add_kwargs", options, create=True):
            keep_names(parser, before, after)
        changed = isinstance(before, Namespace) and before.get("class_path") != after["class_path"]
        if changed and (arguments := before.get("init_args")):
            lost = {
                name: value for name, value in vars(arguments).items() if name not in (after.get("init_args") or {})
            }
            _warn_once(before["class_path"], after["class_path"], lost, known)
            before["init_args"] = Namespace()

    with patch.object(jsonargparse._typehints, _DISCARD, discard):
        yield


@contextmanager
def texts_as_typed() -> Iterator[None]:
    """Inside the block, a typed text such as `Q: {question}` for a class's argument stays text, and null stays null.

    jsonargparse reads what is typed and writes it down for the class's own parser. It would read that text as a YAML
    mapping, and then refuse the mapping where text is expected; null would become the text "None" in a section of the
    class, such as a template. Values in brackets or braces are read as YAML as before.
    """
    read = getattr(jsonargparse._typehints, _READ)

    def unread(value: Any, *more: Any, **options: Any) -> Any:
        if isinstance(value, NestedArg):
            in_section = "." in value.key.removeprefix("init_args.")
            if _is_prose(value.val) or (in_section and value.val in _NULLS):
                return value, None
        return read(value, *more, **options)

    with patch.object(jsonargparse._typehints, _READ, unread):
        yield


@contextmanager
def decimal_numbers() -> Iterator[None]:
    """Inside the block, what YAML 1.1 reads in another base is text: `[010]` holds no 8, and 1:30 is not 90."""
    loader = get_yaml_default_loader()
    resolvers = {
        first: [(tag, _decimal(pattern) if tag in _NUMBERS else pattern) for tag, pattern in rules]
        for first, rules in loader.yaml_implicit_resolvers.items()
    }
    with patch.object(loader, "yaml_implicit_resolvers", resolvers):
        yield


def _decimal(pattern: re.Pattern[str]) -> re.Pattern[str]:
    return re.compile(rf"(?!{OTHER_BASE.pattern}$)(?:{pattern.pattern})", pattern.flags)


def _is_prose(value: object) -> bool:
    """Whether a text would be a mapping or list in YAML, although nobody types one so on a command line."""
    if not isinstance(value, str) or value.lstrip().startswith(("{", "[")):
        return False
    with suppress(yaml.YAMLError):
        return isinstance(yaml.safe_load(value), dict | list)
    return False


def _warn_once(before: str, after: str, lost: Mapping[str, Any], known: set[str]) -> None:
    """Warn once of values of a replaced class that the new class does not take over."""
    values = [
        name if isinstance(value, Namespace) else f"{name}: {value}"
        for name, value in lost.items()
        if value is not None
    ]
    old, new = (path.rpartition(".")[2] for path in (before, after))
    message = f"{new} instead of {old} starts from its own defaults, not from {', '.join(values)}"
    if values and message not in known:
        known.add(message)
        log.warning(message)


def options_of(words: Sequence[str]) -> list[list[str]]:
    """The words grouped into options with their values; the first group may be values without an option."""
    options: list[list[str]] = []
    for word in words:
        if _OPTION.match(word) or not options:
            options.append([word])
        else:
            options[-1].append(word)
    return options


def _is_file(option: Sequence[str]) -> bool:
    """Whether an option names a configuration file, whole or of one section."""
    name, value = name_of(option), value_of(option)
    return name in ("config", "c") or ("." not in name and bool(value) and Path(value).expanduser().is_file())


def _outer_first(options: list[list[str]]) -> list[list[str]]:
    """The options in order, each before the options inside of it; options of lists that grow (`+`) stay in place."""
    ordered: list[list[str]] = []
    for option in options:
        inside = f"{name_of(option)}."
        grows = any(name_of(other) == f"{name_of(option)}+" for other in options)
        inner = (number for number, other in enumerate(ordered) if name_of(other).startswith(inside) and not grows)
        ordered.insert(next(inner, len(ordered)), option)
    return ordered


def name_of(option: Sequence[str]) -> str:
    """The name of an option of `options_of`, without dashes."""
    return option[0].partition("=")[0].lstrip("-")


def value_of(option: Sequence[str]) -> str:
    """The first value of an option of `options_of`; empty if it has none."""
    _, equals, value = option[0].partition("=")
    return value if equals else "".join(option[1:2])
