"""Puts jsonargparse's errors of several lines into one: what was expected, what came, where."""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from lit_longpo.command_line.familiar_options import familiar_value
from lit_longpo.command_line.precedence import name_of, options_of, value_of
from lit_longpo.command_line.recipes import shipped
from lit_longpo.files.strict_json import shortened

_KEY = re.compile(r'Parser key "([\w.]+)":')
_EXPECTED = re.compile(r"Expected an? (?:<class '([\w.]+)'>|typing\.Literal\[([^\n]*)\])")
_GOT = re.compile(r"(?:Got value|Given value): ([^\n]*)")
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text", "NoneType": "null"}
_FORMS = {"list": "a list", "str": "a text"}
_BROKEN = re.compile(r"Problems parsing config: |Unexpected config: |Unable to load config ")
_REQUIRED = re.compile(r"following arguments are required: ([\w., ]+)")
REFUSED = re.compile(r"Option '([\w.]+)' is not accepted")
_CLASSES = {"data", "model", "benchmark", "source", "recipe", "generator"}  # sections that name one
# Where a section that is missing may come from: a recipe of the command that has it.
_RECIPES = {"model": "solopo", "data": "solopo", "source": "solopo", "recipe": "solopo", "benchmark": "needle"}
_FIRST = {"data": "--data data/pairs", "model": "--model DPO", "benchmark": "--config eval/qa"}  # names its class
_UNREAD = re.compile(r"Unable to load config '([^'\n]+)'$", re.MULTILINE)
_LONG_WORD = re.compile(r"[^\s\\/]{400,}")  # of a file that nobody wrote by hand
_STRAY = re.compile(r"unrecognized arguments: (?!-)([^\n]+)")


def in_one_line(
    message: str, words: Sequence[str] = (), files: Sequence[Path] = (), arguments: Sequence[str] = ()
) -> str:
    """The message in one line.

    Args:
        message: of jsonargparse.
        words: of the command line.
        files: that were read; a broken one is found by reading it again.
        arguments: that the class takes which the message is about.
    """
    message = _LONG_WORD.sub(lambda found: shortened(found[0]), message)
    if broken := _broken_file(message, words, files):
        return broken
    if match := _REQUIRED.search(message):
        return _missing([name.rpartition("fit.")[2] for name in match[1].split(", ")])
    if (match := _STRAY.search(message)) and _is_configuration(match[1]):
        return f"expected --config before a file, got {match[1]} alone; type --config {match[1]}"
    if match and " -" not in match[1]:
        return _alone(match[1], words)
    if match := REFUSED.fullmatch(message):
        return _refused(match[1], words, arguments)
    if (match := _UNREAD.search(message)) and _is_configuration(f"{match[1]}.yaml"):
        return f"expected a file of settings, got {match[1]}; type {match[1]}.yaml, as names inside files need it"
    if wrong := _wrong_value(message, words):
        return wrong
    return "; ".join(line.strip(" -") for line in message.splitlines() if line.strip(" -"))


def _broken_file(message: str, words: Sequence[str], files: Sequence[Path]) -> str | None:
    """The first file that cannot be read, if the message may be about one."""
    if _BROKEN.search(message) and (fault := next(filter(None, map(_fault, files)), None)):
        return fault
    if "correct that line" in message:
        return None
    # What a class is read from is tried in other ways, too, and the last try is what the message is about.
    return next((fault for path in [*files, *_typed(words)] if (fault := _read(path)[1])), None)


def _wrong_value(message: str, words: Sequence[str]) -> str | None:
    """A value of another type than its setting has."""
    key, kinds, got = _KEY.search(message), _kinds(message), _GOT.findall(message)
    if not (key and kinds and got):
        return None
    name, value = key[1], got[-1]
    if {"tuple", "list", "null"} >= {*kinds} and value[:1] not in ("[", "{"):
        return _expected_list(name, value.strip("'"), words)
    if kinds == ["null"]:
        return None
    ours = familiar_value(name, value)
    meant = f"; did you mean {ours}?" if ours is not None and any(repr(ours) in kind for kind in kinds) else ""
    return f"expected `{name}` to be {' or '.join(kinds)}, got {value}{meant}"


def _expected_list(name: str, value: str, words: Sequence[str]) -> str:
    """One word where several may stand."""
    option = typed_option(name, words) or f"--{name}"
    return f"expected `{option.lstrip('-')}` to be a list, got {value}; type {option} '[{value}]'"


def typed_option(name: str, words: Sequence[str]) -> str | None:
    """The option of the command line that sets an argument of a class."""
    options = (word.partition("=")[0] for word in words)
    return next((option for option in options if option.endswith(f".{name}")), None)


def configurations(words: Sequence[str]) -> list[Path]:
    """Files behind --config."""
    files = [value_of(option) for option in options_of(words) if name_of(option) in ("config", "c")]
    return [Path(file) for file in files if file]


def _is_configuration(word: str) -> bool:
    return Path(word).suffix in (".yaml", ".yml") or shipped(word) is not None


def _alone(value: str, words: Sequence[str]) -> str:
    """A value that no option has taken: of a switch, if it stands behind one option alone."""
    before = {option for option, word in pairwise(words) if word == value}
    switch = next(iter(before)) if len(before) == 1 else ""
    if switch.startswith("--") and "=" not in switch:
        return f"expected no value behind {switch}, got {value}; type {switch} alone, or leave it out"
    return f"expected the name of an option before every value, got {value} alone"


def _refused(name: str, words: Sequence[str], arguments: Sequence[str]) -> str:
    """An argument that the class named for a section does not have."""
    typed = typed_option(name, words) or name
    section = typed.lstrip("-").rpartition(".")[0].removesuffix(".init_args")
    if section in _CLASSES and not {"--config", "-c", f"--{section}"} & {word.partition("=")[0] for word in words}:
        return (
            f"expected a --config in front of {typed}, an argument of the class that it names for `{section}`, got "
            "none; type --config real/dpo, for example"
        )
    if section in _CLASSES and not arguments:
        first = _FIRST.get(section, f"--{section} CLASS")
        return f"expected a class for `{section}` in front of {typed}, got none; type {first} {typed} ..."
    if not section or not arguments:
        return f"expected options of this command, got {typed}"
    files = f"; for files of yours type {_FIRST['data']} {typed} ..." if (section, name) == ("data", "path") else ""
    return f"expected one of the arguments of `{section}` ({', '.join(arguments)}), got {typed}{files}"


def give_settings(section: str) -> str:
    """What to do about a section without settings."""
    if section not in _FIRST:
        return "give it some, or take that line out"
    return f"start from a recipe: --config {_RECIPES[section]}, or type {_FIRST[section]}"


def _missing(names: Sequence[str]) -> str:
    recipe = next((_RECIPES[name] for name in names if name in _RECIPES), None)
    hint = (
        f"start from a recipe: --config {recipe}" if recipe else "type " + " ".join(f"--{name} ..." for name in names)
    )
    *others, last = (f"`{name}`" for name in names)
    return f"expected {' and '.join(filter(None, (', '.join(others), last)))}, got none; {hint}"


def _kinds(message: str) -> list[str]:
    """What would have been right, each once and none first."""
    found = [
        (cls and _KINDS.get(cls, cls.rpartition(".")[2])) or f"one of {names}"
        for cls, names in _EXPECTED.findall(message)
    ]
    return sorted(dict.fromkeys(found), key=lambda kind: kind == "null")


def _typed(words: Sequence[str]) -> list[Path]:
    """YAML files among the words of a command line."""
    paths = (Path(word.partition("=")[2] or word) for word in words if word.endswith((".yaml", ".yml")))
    return [path for path in paths if path.is_file()]


def _read(path: Path) -> tuple[Any, str | None]:
    """What a file holds, and what is wrong with one that cannot be read; one that is not there holds no section."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")), None
    except OSError:  # whoever reads it says so
        return {}, None
    except UnicodeDecodeError:
        return None, f"expected YAML in {path}, got bytes that are no UTF-8; save it as UTF-8 text, or name another"
    except (yaml.YAMLError, ValueError) as error:  # the latter of a date that is none
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or error
        place = "" if mark is None else f" at line {mark.line + 1}, column {mark.column + 1}"
        return None, f"expected YAML in {path}, got something else{place}: {problem}; correct that line"


def _fault(path: Path) -> str | None:
    """What is wrong with a file before anyone looks for sections in it."""
    content, broken = _read(path)
    if broken is not None or isinstance(content, dict):
        return broken
    came = "nothing" if content is None else _FORMS.get(type(content).__name__, str(content))
    return f"expected sections in {path} (`model:`, `data:`, `trainer:`, ...), got {came}"
