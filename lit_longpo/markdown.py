"""Texts in Markdown that show as they are, whatever they hold: names, settings, what a model wrote."""

import re
from collections.abc import Iterable, Sequence

_MARKS = re.compile(r"([\\`*\[\]|~]|(?<!\w)_|_(?!\w))")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_TICKS = re.compile("`+")


def escape(text: str) -> str:
    """The text as Markdown shows it, in one line."""
    text = text.encode("utf-8", "replace").decode("utf-8")  # no file takes half a character
    plain = "".join(_ENTITIES.get(mark, mark) for mark in " ".join(text.split()))
    return _MARKS.sub(r"\\\1", plain)


def code(text: str) -> str:
    """The text as code within a line; ticks in it do not end it."""
    ticks = "`" * (1 + max((len(run) for run in _TICKS.findall(text)), default=0))
    room = " " if "`" in text else ""
    return f"{ticks}{room}{' '.join(text.split())}{room}{ticks}"


def table(header: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: bool = False) -> list[str]:
    """Lines of a table of texts and numbers.

    Args:
        header: column names.
        rows: cells, each row as long as the header.
        numbers: columns behind the first stand on the right.
    """
    lines = [header, ["---", *["---:" if numbers else "---"] * (len(header) - 1)], *rows]
    return [f"| {' | '.join(escape(str(cell)) for cell in line)} |" for line in lines]
