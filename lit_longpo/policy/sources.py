"""Checks that there is a model at `policy.source`, and explains libraries' errors about its files.

Checked before any library tries to load it, which takes a minute for a name on the hub.
"""

import difflib
import pickle
import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
)
from safetensors import SafetensorError
from transformers import PretrainedConfig

from lit_longpo.errors import InputError, MissingFileError, MissingPackageError, UserError, error_text, missing_package
from lit_longpo.files.folders import MODEL_FILES, holds_model
from lit_longpo.policy.stored_files import stored_file

_SECONDS = 10.0  # for one answer of the hub
_MOST_MODULES = 20_000  # layers, experts and the like, of which transformers makes modules before it looks at weights
# What is wrong elsewhere: a setting, the machine's memory.
_NOT_OF_FILES = (UserError, MemoryError, torch.OutOfMemoryError)


def check_model_folder(folder: Path, gguf_file: str | None) -> None:
    """Refuse a folder that holds no model."""
    wanted = (gguf_file,) if gguf_file else MODEL_FILES
    if any((folder / name).is_file() for name in wanted) or any(folder.glob("*/adapter_config.json")):
        return
    raise MissingFileError(f"expected a model ({' or '.join(wanted)}) in {folder}, found none; {_advice(folder)}")


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


@cache
def check_hub_name(
    name: str, gguf_file: str | None = None, revision: str | None = None, setting: str = "`policy.source`"
) -> None:
    """Refuse a name that is neither a folder nor a model in the hub's cache or on the hub."""
    files = (*MODEL_FILES, "tokenizer_config.json", *filter(None, [gguf_file]))
    if any(stored_file(name, file, revision) for file in files):
        return
    if (cause := _cause(name)) is not None:
        raise MissingFileError(
            f"expected a folder or a model of the hub, got {name}: there is no folder {Path(name).absolute()}, and "
            f"{cause}; {near_model(Path(name)) or f'set {setting}'}"
        )


def _cause(name: str) -> str | None:
    """Why the hub does not give the model; `None` if it does."""
    if constants.HF_HUB_OFFLINE:
        return "nothing of that name has been downloaded, and HF_HUB_OFFLINE keeps the hub from being asked"
    try:
        get_hf_file_metadata(hf_hub_url(name, MODEL_FILES[0]), timeout=_SECONDS)
    except EntryNotFoundError:  # perhaps adapters
        return None
    except GatedRepoError:
        return f"the hub wants its terms accepted: open {constants.ENDPOINT}/{name}, then type: hf auth login"
    except (RepositoryNotFoundError, HFValidationError):
        return "the hub has none of that name (of private ones it tells nobody: hf auth login)"
    except HfHubHTTPError as error:
        return f"the hub answers: {error_text(error)}"
    except Exception as error:  # of whichever transport the hub's client has
        return f"the hub cannot be reached ({error_text(error)})"
    return None


def _advice(folder: Path) -> str:
    """What to type instead of a folder without a model."""
    kept, ggufs = ("*", "snapshots/*"), sorted(folder.glob("*.gguf"))  # the second in the hub's cache
    if holds_model(folder):  # then another file, a gguf, was asked for
        return f"type --policy.gguf_file {ggufs[0].name if ggufs else 'null, as its weights are no gguf'}"
    below = [path for name in MODEL_FILES for place in kept for path in folder.glob(f"{place}/{name}")]
    if below:  # a trainer's folder has a checkpoint for every so many steps
        return f"type --policy.source {max(below, key=lambda path: path.stat().st_mtime_ns).parent}"
    if run := _newest_run(folder):
        return f"type --policy.source {run}, the newest run below it"
    if ggufs:
        return f"type --policy.gguf_file {ggufs[0].name}"
    if any(folder.glob("*.ckpt")):
        return "checkpoints become a model by: python -m lit_longpo export --checkpoint FILE --output FOLDER"
    return "set `policy.source` to the folder that holds them"


def _newest_run(folder: Path) -> Path | None:
    """The model that the newest run below a root folder has left; `None` if there is none."""
    places = ("version_*/model", "*/version_*/model")  # of one name, and of several
    models = [path for place in places for name in MODEL_FILES for path in folder.glob(f"{place}/{name}")]
    return max(models, key=lambda path: path.stat().st_mtime_ns).parent if models else None


def near_model(path: Path) -> str | None:
    """A "did you mean" question with similarly named folders that hold a model; `None` if there are none."""
    if not path.absolute().parent.is_dir():
        return None
    beside = path.absolute().parent.iterdir()
    names = [each.name for each in beside if holds_model(each)]
    near = difflib.get_close_matches(path.name, names, n=2, cutoff=0.6)
    return f"did you mean {' or '.join(str(path.with_name(name)) for name in near)}?" if near else None


def check_depth(config: PretrainedConfig, where: str) -> None:
    """Refuse absurd numbers of layers or experts, of which transformers would build modules until memory ends."""
    for name, value in _numbers(config.to_dict()):
        if re.search("(layers?|experts?|blocks|depth)$", name) and value > _MOST_MODULES:
            raise InputError(
                f"expected {name} of at most {_MOST_MODULES:,} in the config.json at {where}, got {value:.6g}; correct "
                "it, or copy that file again"
            )


def _numbers(settings: Mapping[str, Any]) -> Iterator[tuple[str, int | float]]:
    """Every number of a configuration and of those in it."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _numbers(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield str(name), value


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
