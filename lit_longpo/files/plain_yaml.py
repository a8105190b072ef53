"""Checks a YAML file of settings event by event, before anything makes values of it."""

import re
from pathlib import Path
from typing import Any

import yaml

from lit_longpo.errors import InputError

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the quick one, where it is built
_LONGEST = 1000  # digits of a number; Python reads none of more than 4,300
_MOST_VALUES = 1_000_000  # of a file, what aliases repeat counted each time
_DEEPEST = 100  # sections and lists inside each other; readers take each by a call of its own
_NESTED = f"at most {_DEEPEST} sections or lists inside each other"
# 010 is 8, 1:30 is 90, 0:30.5 is 30.5
OTHER_BASE = re.compile(r"[-+]?(?:0[0-7_]+|[1-9][\d_]*(?::[0-5]?\d)+|\d[\d_]*(?::[0-5]?\d)+\.[\d_]*)")
_MERGED = "<<"  # may stand in a section several times


class _Parts:
    """Counts what YAML is made of with every alias (`*name`) replaced: ten lines can stand for a billion values."""

    def __init__(self) -> None:
        self._open: list[tuple[str | None, int, int]] = []  # anchor, values in it, levels in it
        self._named = dict[str, tuple[int, int]]()  # of what is over

    def problem(self, event: yaml.Event) -> str | None:
        """What is expected in place of a part; `None` if it may stand."""
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
            return _NESTED
        return f"at most {_MOST_VALUES:,} values" if self._open and self._open[-1][1] > _MOST_VALUES else None

    def _add(self, anchor: str | None, values: int, levels: int) -> None:
        """A part is over; it counts in what it lies in."""
        if anchor is not None:
            self._named[anchor] = (values, levels)
        if self._open:
            name, before, deepest = self._open[-1]
            self._open[-1] = (name, before + values, max(deepest, levels))


class _Keys:
    """The keys of every section that is open: YAML would keep the last value of one that comes twice."""

    def __init__(self) -> None:
        self._open: list[dict[tuple[str, str], int] | None] = []  # lines by kind and key; `None` of lists
        self._nodes: list[int] = []  # in each of them so far: a key, its value, a key ...
        self._resolver = yaml.resolver.Resolver()

    def first_line(self, event: yaml.Event) -> int | None:
        """Where a key stood before; `None` of all else."""
        if isinstance(event, yaml.CollectionEndEvent):
            self._open.pop()
            self._nodes.pop()
        if not isinstance(event, yaml.NodeEvent):
            return None
        first = self._noted(event) if self._open else None
        if isinstance(event, yaml.CollectionStartEvent):
            self._open.append({} if isinstance(event, yaml.MappingStartEvent) else None)
            self._nodes.append(0)
        return first

    def _noted(self, event: yaml.NodeEvent) -> int | None:
        keys = self._open[-1]
        self._nodes[-1] += 1
        is_key = keys is not None and self._nodes[-1] % 2 == 1
        if keys is None or not is_key or not isinstance(event, yaml.ScalarEvent) or event.value == _MERGED:
            return None
        kind = event.tag or self._resolver.resolve(yaml.ScalarNode, event.value, event.implicit)  # `1` is not "1"
        first = keys.get((kind, event.value))
        keys.setdefault((kind, event.value), event.start_mark.line + 1)
        return first


def check_plain(path: Path) -> None:
    """Refuse what no setting is, and what is said twice; what is no YAML at all is told by whoever reads it.

    Raises:
        InputError: sections inside sections without end, aliases (`*name`) that repeat without end, a text with a
            NUL, which ends names of files, or a key that comes twice in a section.
    """
    parts, keys, twice = _Parts(), _Keys(), ""
    try:
        for event in yaml.parse(path.read_text(encoding="utf-8"), Loader=LOADER):
            line = event.start_mark.line + 1
            if (problem := parts.problem(event)) is not None:
                raise _too_much(problem, path, line)
            if (text := _of_text(event)) is not None:
                raise InputError(f"expected {text[0]} in {path}, got {text[1]} at line {line}; correct that line")
            if (first := keys.first_line(event)) is not None:
                twice = twice or f"`{event.value}` at line {first} and again at line {line}"
    except yaml.MarkedYAMLError as error:
        if "nesting" in (error.problem or "") and error.problem_mark:  # libyaml's own end, which it reads ahead to
            raise _too_much(_NESTED, path, error.problem_mark.line + 1) from error
        return
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return
    if twice:
        raise InputError(f"expected each key once in a section of {path}, got {twice}; take one of them out")


def _too_much(expected: str, path: Path, line: int) -> InputError:
    return InputError(f"expected {expected} in {path}, got more at line {line}; correct that line")


def settings_in(path: Path) -> dict[str, Any]:
    """The sections of a file, every value as text; none of one that holds something else, or cannot be read."""
    content = written_in(path)
    return content if isinstance(content, dict) else {}


def written_in(path: Path) -> object:
    """What a file holds, every value as text; `None` of one that cannot be read, which is told by its reader."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None


def _of_text(event: yaml.Event) -> tuple[str, str] | None:
    """What is expected in place of a text or number, and what it is; `None` if it may stand."""
    if not isinstance(event, yaml.ScalarEvent):
        return None
    if "\0" in event.value:
        return "texts", "a NUL character"
    if (
        event.implicit[0]
        and OTHER_BASE.fullmatch(event.value)
        and (number := yaml.load(event.value, Loader=LOADER)) != event.value
    ):
        return "decimal numbers, and texts in quotes", f"{event.value}, which YAML reads as {number},"
    if event.implicit[0] and len(event.value) > _LONGEST and event.value.lstrip("+-").isdigit():
        return "numbers", f"one of {len(event.value):,} digits"
    return None
