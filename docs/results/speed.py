"""Tables of speed and memory from the figures that were noted when they were measured, and the README's ranges."""

import re
from collections.abc import Iterator, Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import yaml

from results.outcomes import STORED
from results.pages import line

README = "speed"  # its block in the README
_HEADER = ("hardware", "model", "prompt", "answers", "time", "memory")


def stored() -> dict[str, Any]:
    """Of docs/results/stored/speed.yaml."""
    found: dict[str, Any] = yaml.safe_load((STORED / "speed.yaml").read_text(encoding="utf-8"))
    return found


def tables() -> dict[str, str]:
    """Markdown by the name of its block in RESULTS.md."""
    return {table["name"]: markdown(table) for table in stored()["tables"]}


def markdown(table: Mapping[str, Any]) -> str:
    """A stored table; its machine and commits stand in the page's own words.

    Args:
        table: with `header`, `numbers` (columns of figures) and `rows`.
    """
    columns = range(len(table["header"]))
    marks = ["---:" if column in table["numbers"] else "---" for column in columns]
    rows = (row["cells"] for row in table["rows"])
    return "\n".join(map(line, (table["header"], marks, *rows)))


def readme() -> str:
    """Every entry's smallest and largest ratio."""
    known = stored()
    lines = [line(_HEADER), line(["---"] * len(_HEADER))]
    for name, entry in known["readme"].items():
        time, memory = shown(name, "time"), shown(name, "memory")
        peak = " (peak)" if entry.get("peak") else ""
        lines.append(line([*(entry[column] for column in _HEADER[:4]), time, memory + peak]))
    return "\n".join(lines)


def shown(entry: str, of: str) -> str:
    """The range of the ratios that rows of the tables have for an entry of the README's.

    Args:
        entry: its name.
        of: "time" or "memory".
    """
    return ranged([*_ratios(stored()["tables"], entry, of)])


def ratios(cell: str) -> list[Decimal]:
    """Those of a cell: a median, or one for each run; what stands in brackets is of single rounds.

    Args:
        cell: for example "0.556, 0.563 (0.50 - 0.71)".
    """
    return [Decimal(found) for found in re.findall(r"\d+\.\d+", re.sub(r"\(.*?\)", "", cell))]


def ranged(values: list[Decimal]) -> str:
    """The smallest and the largest, or the one, to two digits."""
    ends = (value.quantize(Decimal("0.01"), ROUND_HALF_UP) for value in (min(values), max(values)))
    return " to ".join(dict.fromkeys(map(str, ends)))


def _ratios(tables: list[dict[str, Any]], entry: str, of: str) -> Iterator[Decimal]:
    for table in tables:
        for row in table["rows"]:
            if (shown := row.get("readme")) and shown["entry"] == entry and of in shown:
                yield from ratios(row["cells"][shown[of]])
