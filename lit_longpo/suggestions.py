"""Did you mean ...? for misspelt keys and class names on the command line and in YAML."""

import difflib
import inspect
import re
from collections.abc import Iterable, Iterator

from jsonargparse import ArgumentParser
from jsonargparse._util import import_object
from lightning.pytorch import Callback, LightningDataModule

from lit_longpo.objectives import PreferenceModule

# How jsonargparse 4 quotes the word it did not know; the first group is the word.
_UNKNOWN = (
    re.compile(r"[Oo]ption '([\w.]+)' is not accepted"),
    re.compile(r"[Kk]ey[ :]+'?\"?([\w.]+)'?\"? is not expected"),
    re.compile(r"unrecognized arguments: --([\w.]+)"),
    re.compile(r"dot import path string: ([\w.]+)"),
    re.compile(r"does not accept (?:option|key|nested key) '([\w.]+)'"),
)
_CLASS_PATH = re.compile(r"class_path '([\w.]+)'")


def with_suggestion(message: str, parser: ArgumentParser) -> str:
    """The message, followed by the nearest known names if there are any."""
    unknown = [match.group(1) for pattern in _UNKNOWN for match in pattern.finditer(message)]
    known = sorted({*_option_names(parser), *_class_names(), *_init_args(message)})
    lines = [line for word in dict.fromkeys(unknown) for line in _suggest(word, known)]
    return "\n".join([message, *lines])


def _suggest(word: str, known: list[str]) -> Iterator[str]:
    """One line naming the closest names: of the whole dotted word, else of one of its parts."""
    for part in (word, *word.split(".")):
        near = difflib.get_close_matches(part, known, n=3, cutoff=0.75)
        if near and part not in known:
            yield f"did you mean {' or '.join(near)}?"
            return


def _option_names(parser: ArgumentParser) -> Iterator[str]:
    """Dotted option names of the parser and of its subcommands."""
    for action in parser._actions:
        yield action.dest
        for subparser in getattr(action, "_name_parser_map", {}).values():
            yield from _option_names(subparser)


def _class_names() -> Iterator[str]:
    """Short names of the objectives, data modules and callbacks that YAML can name."""
    bases: tuple[type, ...] = (PreferenceModule, LightningDataModule, Callback)
    for base in bases:
        for cls in _subclasses(base):
            yield cls.__name__


def _subclasses(base: type) -> Iterator[type]:
    children: list[type] = base.__subclasses__()
    for cls in children:
        yield cls
        yield from _subclasses(cls)


def _init_args(message: str) -> Iterable[str]:
    """Arguments of the classes that the message names."""
    for path in _CLASS_PATH.findall(message):
        yield from inspect.signature(import_object(path)).parameters
