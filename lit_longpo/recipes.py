"""Configurations that come with the package (`configs/`), found by name from any folder.

Typed names: `--config solopo`, `--config overlays/bf16`, `--policy model/tiny`; also as the README writes them,
`configs/solopo.yaml`. Files that YAML names are looked for beside that YAML, in the current folder, then here.
"""

import difflib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml
from jsonargparse._paths import Path as NamedPath

from lit_longpo.errors import InputError, MissingFileError

log = logging.getLogger(__name__)

_SUFFIXES = (".yaml", ".yml")
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the quick one, where it is built
_LONGEST = 1000  # digits of a number; Python reads none of more than 4,300
_MOST_VALUES = 1_000_000  # of a file, what aliases repeat counted each time
_DEEPEST = 100  # sections and lists inside each other; readers take each by a call of its own
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


def shipped_folder() -> Path:
    """Where they lie: inside the package once it is installed, beside it in a checkout."""
    installed = Path(__file__).parent / "configs"
    return installed if installed.is_dir() else Path(__file__).parents[1] / "configs"


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
        FileNotFoundError: a configuration is neither here nor among ours.
        ValueError: a section is given data or a model, where a file of settings belongs.
    """
    found = list(words)
    for number, word in enumerate(words):
        option, equals, value = word.partition("=")
        if equals and option in _CONFIG_OPTIONS:
            found[number] = f"{option}={_configuration(value, room)}"
        elif equals and _is_section(option):
            found[number] = f"{option}={_fragment(option, value, room)}"
        elif number and words[number - 1] in _CONFIG_OPTIONS:
            found[number] = _configuration(word, room)
        elif number and _is_section(words[number - 1]):
            found[number] = _fragment(words[number - 1], word, room)
    return found


@contextmanager
def fragments_found() -> Iterator[list[Path]]:
    """While YAML is read: a file that it names and that is not beside it may be in the current folder, or ours.

    Yields:
        The files that were read so far.

    Raises:
        FileNotFoundError: it is nowhere.
    """
    start, plain = Path.cwd(), NamedPath.__init__
    read: list[Path] = []

    def find(self: NamedPath, path: Any, *arguments: Any, **options: Any) -> None:
        if type(self) is NamedPath and isinstance(path, str) and path.endswith(_SUFFIXES):
            file = _beside_here_or_ours(path, start)
            read.append(file.absolute())
            check_plain(file)
            path = str(file)
        plain(self, path, *arguments, **options)

    with patch.object(NamedPath, "__init__", find):
        yield read


class _Parts:
    """Counts what YAML is made of with every alias (`*name`) replaced: ten lines can stand for a billion values."""

    def __init__(self) -> None:
        self._open: list[tuple[str | None, int, int]] = []  # anchor, values in it, levels in it
        self._named = dict[str, tuple[int, int]]()  # of what is over

    def problem(self, event: yaml.Event) -> str | None:
        """What is expected in place of a part; `None` if it may stand.

        Args:
            event: the next one of a file.
        """
        if isinstance(event, yaml.CollectionStartEvent):
            self._open.append((event.anchor, 1, 1))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, values, levels = self._open.pop()
            self._add(anchor, values, levels + 1)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in (anchor for anchor, _, _ in self._open):
                return f"`*{event.anchor}` to end somewhere, which stands inside of `&{event.anchor}` itself"
            self._add(None, *self._named.get(event.anchor, (0, 0)))
        elif isinstance(event, yaml.ScalarEvent):
            self._add(event.anchor, 1, 1)
        if len(self._open) + (self._open[-1][2] if self._open else 0) > _DEEPEST + 1:
            return f"at most {_DEEPEST} sections or lists inside each other"
        return f"at most {_MOST_VALUES:,} values" if self._open and self._open[-1][1] > _MOST_VALUES else None

    def _add(self, anchor: str | None, values: int, levels: int) -> None:
        """A part is over; it counts in what it lies in."""
        if anchor is not None:
            self._named[anchor] = (values, levels)
        if self._open:
            name, before, deepest = self._open[-1]
            self._open[-1] = (name, before + values, max(deepest, levels))


def check_plain(path: Path) -> None:
    """Refuse what no setting is and libraries stumble over; what is no YAML at all is told by whoever reads it.

    Args:
        path: of a YAML file.

    Raises:
        InputError: sections inside sections without end, aliases (`*name`) that repeat without end, or a text with a
            NUL, which ends names of files.
    """
    parts = _Parts()
    try:
        for event in yaml.parse(path.read_text(encoding="utf-8"), Loader=LOADER):
            line = event.start_mark.line + 1
            if (problem := parts.problem(event)) is not None:
                raise InputError(f"expected {problem} in {path}, got more at line {line}; correct that line")
            if not isinstance(event, yaml.ScalarEvent):
                continue
            if "\0" in event.value:
                raise InputError(f"expected texts in {path}, got a NUL character at line {line}; correct that line")
            if event.implicit[0] and len(event.value) > _LONGEST and event.value.lstrip("+-").isdigit():
                raise InputError(f"expected numbers in {path}, got one of {len(event.value):,} digits at line {line}")
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return


def _beside_here_or_ours(name: str, start: Path) -> Path:
    """A file that YAML names; jsonargparse has made the YAML's folder the current one.

    Raises:
        FileNotFoundError: naming the places.
    """
    path = Path(name).expanduser()
    if path.exists():
        return path
    if (start / path).exists():
        return _local(start / path, shipped(name))
    ours = None if path.is_absolute() else shipped(name)
    if ours is None:
        places = dict.fromkeys((str((Path.cwd() / path).parent), str((start / path).parent)))
        raise MissingFileError(_nowhere(name, " or ".join(places), shipped_names()))
    return ours


def _configuration(name: str, room: str) -> str:
    """The file that a word after `--config` means; words that are no names stay as they are."""
    if any(mark in name for mark in "{}:\n") or name == "-":  # YAML itself, an address
        return name
    for path in (Path(name), Path(f"{name}.yaml")):
        if path.expanduser().is_file():
            check_plain(path.expanduser())
            return str(_local(path, shipped(name, room)))
    ours = shipped(name, room)
    if ours is None:
        raise MissingFileError(_nowhere(name, str(Path.cwd()), shipped_names(room)))
    return str(ours)


def _fragment(option: str, word: str, room: str) -> str:
    """The file that a word after a section means, if it has the form of one.

    Raises:
        ValueError: it is data, a model or no fragment's name; says which option takes it.
    """
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
    return not names_class and not Path(word).is_file() and not word.startswith("-")


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
        log.info("reading %s of this folder, not the %s that comes with lit_longpo", path, ours.name)
    return path


def _nowhere(name: str, places: str, names: Sequence[str]) -> str:
    """What was looked for and where, and what there is."""
    plain = name.removeprefix("configs/").removesuffix(".yaml")
    near = difflib.get_close_matches(plain, names, n=3, cutoff=0.6)
    recipes = [known for known in names if "/" not in known]
    hint = f"did you mean {' or '.join(near)}?" if near else f"recipes that can be named: {', '.join(recipes)}"
    return f"expected a configuration file, got {name}, which is neither in {places} nor comes with lit_longpo; {hint}"
