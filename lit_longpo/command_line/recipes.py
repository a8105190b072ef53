"""Configurations that come with the package (`configs/`), found by name from any folder.

Typed names: `--config solopo`, `--config overlays/bf16`, `--policy model/tiny`; also as the README writes them,
`configs/solopo.yaml`. Files that YAML names are looked for beside that YAML, in the current folder, then here.
"""

import difflib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from unittest.mock import patch

from jsonargparse._paths import Path as NamedPath

from lit_longpo.errors import InputError, MissingFileError
from lit_longpo.files.plain_yaml import check_plain, settings_in
from lit_longpo.log_once import log_once

log = logging.getLogger(__name__)

_SUFFIXES = (".yaml", ".yml")
_CONFIG_OPTIONS = ("--config", "-c")
# Sections that are files of settings, and the options that take what is given to them by mistake.
_DATA = (".jsonl", ".json", ".gz", ".parquet", ".csv", ".tsv", ".txt")
_TAKES_DATA = {
    "--data": "--data.path {} (with --data data/pairs in front, if the --config reads other data)",
    "--benchmark": "--benchmark.path {}",
    "--source": "--source.paths '[{}]'",
}
# What takes the data of a command that has no --data, by the room of its recipes.
_INSTEAD_OF_DATA = {
    "eval": "--config eval/qa --benchmark.path {}",
    "build": "--config build/solopo_chat --source.paths '[{}]'",
}
_TAKES_MODEL = ("--policy", "--model")
_READ: ContextVar[list[Path] | None] = ContextVar("read", default=None)  # files, while a command line is parsed


def shipped_folder() -> Path:
    """Where they lie: inside the package once it is installed, beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def shipped_names(room: str = "") -> list[str]:
    """Names of all in a room and its rooms, as they are typed: without suffix."""
    folder = shipped_folder() / room
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def shipped(name: str, room: str = "") -> Path | None:
    """The file of that name, first of those in a command's own room; `None` if none of ours is called so."""
    plain = name.removeprefix("configs/").removesuffix(".yaml")
    for place in (room, "") if room else ("",):
        if plain in shipped_names(place):
            return shipped_folder() / place / f"{plain}.yaml"
    return None


def with_files(words: Sequence[str], room: str = "") -> list[str]:
    """The same words, but where one names a configuration, the path of its file.

    A file of the user's wins over one of ours.

    Args:
        words: of a command line that takes configurations.
        room: where the recipes of the command lie: `build`, `eval`; those of `fit` are in none.

    Raises:
        MissingFileError: a configuration is neither here nor among ours.
        InputError: a section is given data or a model, where a file of settings belongs.
    """
    found = list(words)
    for number, word in enumerate(words):
        option, equals, value = word.partition("=")
        if equals and (file := _file(option, value, room)) is not None:
            found[number] = f"{option}={file}"
        elif number and (file := _file(words[number - 1], word, room)) is not None:
            found[number] = file
    return found


def _file(option: str, value: str, room: str) -> str | None:
    """What is put in the place of an option's value; `None` where the option takes no file of settings."""
    if option in _CONFIG_OPTIONS:
        return _configuration(value, room)
    return _fragment(option, value, room) if _is_section(option) else None


@contextmanager
def fragments_found() -> Iterator[list[Path]]:
    """While YAML is read: a file that it names and that is not beside it may be in the current folder, or ours.

    Yields:
        The files that were read so far.

    Raises:
        MissingFileError: it is nowhere.
    """
    if (begun := _READ.get()) is not None:  # by the parser of the whole command
        yield begun
        return
    start, plain = Path.cwd(), NamedPath.__init__
    read: list[Path] = []

    def find(self: NamedPath, path: Any, *arguments: Any, **options: Any) -> None:
        if type(self) is NamedPath and isinstance(path, str) and path.endswith(_SUFFIXES):
            file = _beside_here_or_ours(path, start)
            if file.absolute() not in read:  # jsonargparse asks for one several times
                read.append(file.absolute())
                check_plain(read[-1])
            path = str(file)
        plain(self, path, *arguments, **options)

    token = _READ.set(read)
    try:
        with patch.object(NamedPath, "__init__", find):
            yield read
    finally:
        _READ.reset(token)


def _beside_here_or_ours(name: str, start: Path) -> Path:
    """A file that YAML names; jsonargparse has made the YAML's folder the current one."""
    path = Path(name).expanduser()
    if path.exists():
        return path
    if (start / path).exists():
        return _local(start / path, shipped(name))
    ours = None if path.is_absolute() else shipped(name)
    if ours is None:
        places = dict.fromkeys((str((Path.cwd() / path).parent), str((start / path).parent)))
        raise MissingFileError(_nowhere(name, " or ".join(places), (Path.cwd(), start), shipped_names()))
    return ours


def _configuration(name: str, room: str) -> str:
    """The file that a word after `--config` means; words that are no names stay as they are."""
    if any(mark in name for mark in "{}:\n") or name == "-":  # YAML itself, an address
        return name
    for path in (Path(name), Path(f"{name}.yaml")):
        if path.expanduser().is_file():
            if path.suffix not in _SUFFIXES:  # those are looked through where they are read
                check_plain(path.expanduser())
            return str(_local(path, shipped(name, room)))
    ours = shipped(name, room)
    if ours is None:
        raise MissingFileError(_nowhere(name, str(Path.cwd()), [Path.cwd()], shipped_names(room)))
    return str(ours)


def _fragment(option: str, word: str, room: str) -> str:
    """The file that a word after a section means, if it has the form of one."""
    if option == "--data" and room in _INSTEAD_OF_DATA:
        advice = _INSTEAD_OF_DATA[room].format(word)
        raise InputError(f"expected an option of this command, got --data {word}; type {advice}")
    ours = shipped(word) if "/" in word and not Path(word).expanduser().is_file() else None
    if ours is not None:
        return str(ours)
    if option in _TAKES_DATA and (word.endswith(_DATA) or (Path(word).is_dir() and option != "--benchmark")):
        raise InputError(_belongs(option, "a class or a YAML file", word, f"type {_TAKES_DATA[option].format(word)}"))
    if option in _TAKES_MODEL and _is_model(option, word):
        near = " or ".join(_fragments_like(word))
        hint = f"did you mean {near}? Of a folder or hub name" if near else "of a folder or hub name"
        raise InputError(_belongs(option, "a YAML file", word, f"{hint} type --policy.source {word}"))
    return word


def _is_model(option: str, word: str) -> bool:
    """Whether a word is the folder or the name of a model, or means to be that of a fragment."""
    if word.endswith(_SUFFIXES) or any(mark in word for mark in "{}: \n") or word in ("null", "-"):
        return False
    if Path(word).is_dir() or (word.endswith(".gguf") and Path(word).is_file()):
        return True
    names_class = option == "--model" and "/" not in word  # of an objective
    if Path(word).is_file():
        return not settings_in(Path(word))
    return not names_class and not word.startswith("-")


def _fragments_like(word: str) -> list[str]:
    """Names of the models that come with the package which a word is nearly, with or without their room."""
    models = {name.rpartition("/")[2]: name for name in shipped_names() if name.startswith("model/")}
    close = difflib.get_close_matches(word.rpartition("/")[2], models, n=2, cutoff=0.6)
    return [] if Path(word).exists() else [models[name] for name in close]


def _belongs(option: str, expected: str, word: str, advice: str) -> str:
    return f"expected `{option.lstrip('-')}` to name {expected}, got {word}; {advice}"


def _is_section(option: str) -> bool:
    return option.startswith("--") and "." not in option and "=" not in option and option.rstrip("+") == option


def _local(path: Path, ours: Path | None) -> Path:
    """The user's file; said where one of ours has the name, and is another."""
    if ours is not None and path.expanduser().read_bytes() != ours.read_bytes():
        log_once(log.info, "reading %s of this folder, not the %s that comes with lit_longpo", path, ours.name)
    return path


def _nowhere(name: str, places: str, folders: Sequence[Path], names: Sequence[str]) -> str:
    """What was looked for and where, and what there is: the user's own files first."""
    plain = name.removeprefix("configs/").removesuffix(".yaml")
    there = (path for folder in folders for path in (folder / name).parent.glob("*"))
    beside = {path.stem: path.name for path in there if path.suffix in _SUFFIXES}
    stems = difflib.get_close_matches(Path(name).stem, beside, n=2)
    near = [str(Path(name).with_name(beside[stem])) for stem in stems]
    near += difflib.get_close_matches(plain, names, n=3 - len(near), cutoff=0.6)
    recipes = [known for known in names if "/" not in known]
    hint = f"did you mean {' or '.join(near)}?" if near else f"recipes that can be named: {', '.join(recipes)}"
    return f"expected a configuration file, got {name}, which is neither in {places} nor comes with lit_longpo; {hint}"
