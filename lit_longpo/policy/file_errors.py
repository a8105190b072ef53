"""Explains, in one line, libraries' errors about a model's files."""

import pickle
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from lit_longpo.errors import InputError, MissingFileError, MissingPackageError, UserError, error_text, missing_package

# What is wrong elsewhere: a setting, the machine's memory.
_NOT_OF_FILES = (UserError, MemoryError, torch.OutOfMemoryError)


@contextmanager
def read_by_transformers(what: str, where: str, reader: str = "transformers") -> Iterator[None]:
    """Inside the block, turn errors of transformers (or peft) about unreadable files into one line for the user.

    Files with unexpected values raise any of Python's errors; panics of Rust code are not even an `Exception`.

    Raises:
        MissingFileError: the files cannot be read.
        MissingPackageError: naming the missing package.
    """
    try:
        yield
    except _NOT_OF_FILES:
        raise
    except ImportError as error:
        if (package := missing_package(error)) is None:
            raise
        raise MissingPackageError(
            f"expected the package `{package}`, which {what} at {where} takes, found none; type: pip install {package}"
        ) from error
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        what = "a config.json" if isinstance(error, StrictDataclassError) else what  # which tokenizers are read by, too
        kind = "" if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: "
        raise MissingFileError(
            f"expected {what} at {where} that {reader} can read, got: {kind}{error_text(error)[:500]}"
            f"{_looked_up(error)}; copy its files again, or set `policy.source`"
        ) from error


def _looked_up(error: BaseException) -> str:
    """The line of code behind a KeyError, which shows what kind of value was looked up; empty for other errors."""
    if not isinstance(error, KeyError):
        return ""
    *_, last = traceback.extract_tb(error.__traceback__)
    return f" (not found by `{last.line}`; correct config.json if it is there)"


@contextmanager
def tensors_alone(where: str) -> Iterator[None]:
    """Inside the block, turn torch's pages about weights that hold more than tensors into one line.

    Raises:
        InputError: naming what they hold.
    """
    try:
        yield
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        raise InputError(
            f"expected tensors in the weights at {where}, got a pickle with {found.group(1) if found else 'more'}, "
            "which could run code; set `policy.source` to a folder with safetensors"
        ) from error


@contextmanager
def whole_files(source: str) -> Iterator[None]:
    """Inside the block, turn errors about missing or broken weight files into one line that names the file.

    Raises:
        InputError: a safetensors file is broken.
        MissingFileError: one that the folder's index names is not there.
    """
    try:
        yield
    except SafetensorError as error:
        raise InputError(
            f"expected whole weights at {source}, got a broken file ({error_text(error)}); copy it again"
        ) from error
    except FileNotFoundError as error:
        if Path(source).is_dir():
            lost = Path(error.filename or str(error).rpartition(" ")[2]).name
            raise MissingFileError(f"expected {lost} at {source}, found none; copy the whole folder") from error
        raise
