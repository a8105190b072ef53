"""Errors that are messages to the user, and are shown without pages of traceback.

Whoever raises one says what was expected, what came, and what to type next. Each kind is also the built-in error that
Python programs expect. What only a mistake in our own code can cause stays built-in, and keeps its traceback.
"""

import difflib
import errno
import importlib.util
import os
import re
import sys
from collections.abc import Collection, Sequence
from unicodedata import category

PACKAGES = ("lit_longpo", "data_modules", "evaluation")  # of this project; the later ones import the first
DIED = 128  # what a shell adds to the signal that ended a program


class UserError(Exception):
    """Something that the user can put right; the message says how."""


class InputError(UserError, ValueError):
    """A setting, argument, record, file or model is not what it must be."""


class InputTypeError(UserError, TypeError):
    """An argument is of a type that it must not be."""


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder is not where a setting says."""


class MissingPackageError(UserError, ModuleNotFoundError):
    """An optional package is not installed."""


class BusyError(UserError, BlockingIOError):
    """Another process is at work in the folder."""


class UnreachableError(UserError, ConnectionError):
    """A server does not answer as it must."""


class LostRecordsError(Exception):
    """Records are lost or doubled: a mistake of ours, not the user's, so its traceback is shown."""


class StorageError(UserError, OSError):
    """A disk is full, read-only, closed to us, or what lay there is gone."""


# What a disk may refuse anywhere, in words; `lit_longpo.files.storing` says more where it is known what is written.
REFUSALS = {
    errno.ENOSPC: "no space is left",
    errno.EDQUOT: "the quota is used up",
    errno.EROFS: "it is read-only",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.ENOTDIR: "a file is where a folder has to be",
    errno.EEXIST: "something of that name is there already",
    errno.ENAMETOOLONG: "its name is too long",
    errno.ELOOP: "links there lead in a circle",
    errno.EISDIR: "a folder is where a file has to be",
}

_LONGEST_PATH = 1000  # characters of it that are said
_LONGEST_MESSAGE = 2500  # that somebody may read
_BREAKS = ("Cc", "Cs", "Zl", "Zp")  # Unicode's control characters, halves of characters, ends of lines and paragraphs

# Errors that Lightning raises to tell its users something, in one line.
_LIBRARY_MESSAGES = ("lightning.fabric.utilities.exceptions.MisconfigurationException",)
_LIBRARY_WORDS = ("Early stopping conditioned on metric",)  # of an error that is no class of its own
_NO_HOME = "Could not determine home directory"  # pathlib's words for a `~` or `~NAME`
_TOLD = re.compile(r"pip install (?:-U )?['\"]?([A-Za-z][\w-]*)")


def message_for_user(error: BaseException) -> str | None:
    """The message, if it was written for the user; `None` for everything unforeseen.

    jsonargparse raises anew what a constructor has raised; that is our error as long as its words hold those.
    """
    if isinstance(error, UserError):
        return readable(str(error))
    named = f"{type(error).__module__}.{type(error).__name__}" in _LIBRARY_MESSAGES
    if named or (type(error) is RuntimeError and str(error).startswith(_LIBRARY_WORDS)):
        return readable(_spaced(str(error)))
    if type(error) is RuntimeError and str(error).startswith(_NO_HOME):
        return (
            "expected paths in the home folder of a user (`~/...`, `~NAME/...`) whom this machine knows, got one that "
            "it has no home folder for; type the whole path"
        )
    if isinstance(error, OSError) and error.errno in REFUSALS and error.filename:
        path, cause = shown_path(error.filename), REFUSALS[error.errno]
        return f"expected to read or write {path}, but {cause}; put that right, or name another place"
    inner = error.__cause__ or error.__context__
    return message_for_user(inner) if inner is not None and _spaced(str(inner)) in _spaced(str(error)) else None


def readable(message: str) -> str:
    """A message in one line, its middle left out where nobody could read it: it may quote what a damaged file holds."""
    message = _in_one_line(message)
    left_out = len(message) - _LONGEST_MESSAGE
    half = _LONGEST_MESSAGE // 2
    return message if left_out <= 0 else f"{message[:half]} ... ({left_out:,} characters) ... {message[-half:]}"


def _in_one_line(text: str) -> str:
    return "".join(repr(mark)[1:-1] if category(mark) in _BREAKS else mark for mark in text)


def first_names(names: Sequence[str], most: int) -> str:
    """The first of some names, as errors list them."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def did_you_mean(name: object, known: Collection[str]) -> str:
    """The known name that is most like an unknown one, as a question in brackets; empty if none is like it."""
    close = difflib.get_close_matches(str(name), known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def shown_path(path: os.PathLike[str] | str | bytes) -> str:
    """A path as errors show it: the beginning, where it is too long for any system."""
    text = os.fsdecode(path)
    return _in_one_line(text if len(text) <= _LONGEST_PATH else f"{text[:_LONGEST_PATH]}...")


def _spaced(words: str) -> str:
    return " ".join(words.split())


def error_text(error: BaseException) -> str:
    """A library's error message in one line; the error's class if it has no message."""
    return _spaced(str(error)) or type(error).__name__


def require_package(name: str, wanted_by: str, advice: str) -> None:
    """Refuse where an optional package is missing.

    Args:
        name: by which it is imported.
        wanted_by: what needs it, for the error.
        advice: what to type, or to do instead.

    Raises:
        MissingPackageError: it is not installed.
    """
    if importlib.util.find_spec(name) is None:
        raise MissingPackageError(f"expected the package `{name}` for {wanted_by}, found none; {advice}", name=name)


def missing_package(error: BaseException | None) -> str | None:
    """The package to install, if a chain of errors begins with a missing one that is not ours or Python's."""
    if error is None or isinstance(error, UserError):
        return None
    if told := _TOLD.search(str(error)):
        return told.group(1)
    name = (getattr(error, "name", None) or "") if isinstance(error, ModuleNotFoundError) else ""
    if name and name.partition(".")[0] not in {*PACKAGES, *sys.stdlib_module_names}:
        return name.partition(".")[0]
    return missing_package(error.__cause__ or error.__context__)
