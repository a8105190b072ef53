"""Keys of YAML files that stand in the wrong section, and files of one section where whole configurations belong."""

from collections.abc import Collection, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from lit_longpo.command_line.known_names import class_of, option_names, subclass_names
from lit_longpo.files.plain_yaml import written_in

_OF_A_CLASS = {"class_path", "init_args", "dict_kwargs"}


def place_in_files(word: str, beside: Collection[str], files: Sequence[Path]) -> tuple[str, Path] | None:
    """Where a refused key stands: its dotted name and its file; `None` if no file has it, or several places do.

    Args:
        word: the key, below the section that refuses it.
        beside: what that section takes; its other keys tell it from others that have the word.
        files: that were read.
    """
    first = word.partition(".")[0]
    found = [
        (f"{section}.{word}".lstrip("."), path)
        for path in dict.fromkeys(files)
        for section, content in _sections(written_in(path), "")
        if _value_at(content, word) and content.keys() - {first} <= {*beside}
    ]
    return found[0] if len(found) == 1 else None


def meant_place(place: str, options: Collection[str]) -> str | None:
    """The option that a key would be with sections of its name left out, fewest first; `None` if there is none."""
    parts = place.split(".")
    for start, end in sorted(combinations(range(len(parts)), 2), key=lambda cut: cut[1] - cut[0]):
        if (name := ".".join(parts[:start] + parts[end:])) in options:
            return name
    return None


def section_of(content: dict[str, Any], parser: ArgumentParser) -> str | None:
    """The section that has all of these settings; `None` if none or several have, and for a single key."""
    if len(content) < 2:
        return None
    options = set(option_names(parser))
    sections = sorted({option.partition(".")[0] for option in options} - {"help"})
    if {*content} <= _OF_A_CLASS:
        name = str(content.get("class_path")).rpartition(".")[2]
        found = [one for one in sections if (cls := class_of(parser, one)) and name in subclass_names(cls)]
    else:
        found = [one for one in sections if all(f"{one}.{key}" in options for key in content)]
    return found[0] if len(found) == 1 else None


def beside_a_class(files: Sequence[Path]) -> tuple[str, list[str], Path] | None:
    """The first section that names a class and has other keys beside it, those, and the file; `None` if none has."""
    for path in files:
        for section, content in _sections(written_in(path), ""):
            if "class_path" in content and (keys := [key for key in content if key not in _OF_A_CLASS]):
                return section, keys, path
    return None


def _sections(content: object, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every section of a file, its dotted name in front."""
    if isinstance(content, list):
        for number, item in enumerate(content):
            yield from _sections(item, f"{name}[{number}]")
    if isinstance(content, dict):
        yield name, content
        for key, value in content.items():
            yield from _sections(value, f"{name}.{key}".lstrip("."))


def _value_at(content: Any, word: str) -> bool:
    for key in word.split("."):
        if not isinstance(content, dict) or key not in content:
            return False
        content = content[key]
    return True
