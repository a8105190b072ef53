"""The command line that is being parsed: its words, the files that they name, and whose options it has."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from lit_longpo.command_line.precedence import options_of, value_of
from lit_longpo.command_line.wording import typed_option
from lit_longpo.files.plain_yaml import settings_in

_PARSED: ContextVar[tuple[Sequence[str], Sequence[Path]]] = ContextVar("parsed", default=((), ()))
_COMMAND: ContextVar[ArgumentParser | None] = ContextVar("command", default=None)  # whose options are being parsed


@contextmanager
def command_line(words: Sequence[str], files: Sequence[Path], command: ArgumentParser) -> Iterator[None]:
    """Remember the command line that is being parsed, for the error messages of all parsers involved.

    Args:
        words: typed.
        files: that were read so far; it grows.
        command: whose options are being parsed.
    """
    token, parser = _PARSED.set((words, files)), _COMMAND.set(command)
    try:
        yield
    finally:
        _PARSED.reset(token)
        _COMMAND.reset(parser)


def typed_words() -> Sequence[str]:
    """Words of the command line that is being parsed."""
    return _PARSED.get()[0]


def read_files() -> Sequence[Path]:
    """Files that the command line has named so far."""
    return _PARSED.get()[1]


def command_of(parser: ArgumentParser) -> ArgumentParser:
    """Whose options are being parsed, where `parser` is only one class's; else itself."""
    return _COMMAND.get() or parser


def typed_value(option: str) -> str | None:
    """What was typed behind an option of the command line, or stands in a file; `None` if nothing does."""
    words, files = _PARSED.get()
    for group in options_of(words):
        if group[0].partition("=")[0] == f"--{option}":
            return value_of(group) or None
    found = next(filter(None, (_value_in(path, option) for path in reversed(files))), None)
    inside = typed_option(option, words)  # of a class
    return found if found or inside is None else typed_value(inside.lstrip("-"))


def _value_in(path: Path, option: str) -> str | None:
    """An option's value as a file has it, of a file of one section too; `None` if it has none."""
    content = settings_in(path)
    for names in (option.split("."), option.split(".")[-1:]):
        value: Any = content
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        if isinstance(value, list):
            return f"[{','.join(map(str, value))}]"
        if isinstance(value, str) and value not in ("", "null", "~"):
            return value
    return None
