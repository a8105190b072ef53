"""Predictions that count, by task, length, depth and group."""

import math
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

from evaluation.reports.intervals import ClusteredScores, OfficialNumber
from evaluation.reports.report import BenchmarkReport, Prediction

Key = TypeVar("Key", str, float)
Groups = dict[Key, list[Prediction]]
_MAX_LENGTHS = 16


def by_task(report: BenchmarkReport) -> Groups[str]:
    """In the order of the report; a benchmark without tasks is one."""
    return _grouped(report.counted, lambda item: item.task or report.name)


def by_group(report: BenchmarkReport) -> dict[str, Groups[str]]:
    """Predictions by value of each group that the benchmark has, for example "difficulty"."""
    names = dict.fromkeys(name for item in report.predictions for name in item.groups)
    return {name: _by_value(report.counted, name) for name in names}


def _by_value(items: Iterable[Prediction], name: str) -> Groups[str]:
    """By the value of one group; values that begin with a number in its order, "16k" before "128k"."""
    groups = _grouped((item for item in items if name in item.groups), lambda item: item.groups[name])
    return {value: groups[value] for value in sorted(groups, key=lambda value: (_leading_number(value), value))}


def _leading_number(text: str) -> int:
    match = re.match(r"\d+", text)
    return int(match[0]) if match else sys.maxsize


def by_depth(report: BenchmarkReport) -> Groups[float]:
    """Predictions whose needed facts have a depth, by depth, ascending."""
    rows = [(item.depth, item) for item in report.counted if item.depth is not None]
    return {depth: [item for other, item in rows if other == depth] for depth in sorted({depth for depth, _ in rows})}


def is_grid(predictions: Sequence[Prediction]) -> bool:
    """Whether lengths were chosen, not found: few, and several predictions at each."""
    lengths = {item.length for item in predictions}
    return len(lengths) <= _MAX_LENGTHS and 2 * len(lengths) <= len(predictions)


def by_length(report: BenchmarkReport) -> Groups[str]:
    """Predictions by length, ascending: every chosen length, or doubling ranges of found ones."""
    items = sorted(report.counted, key=lambda item: item.length)
    return _grouped(items, (lambda item: f"{item.length:,}") if is_grid(items) else (lambda item: _range(item.length)))


def _range(length: int) -> str:
    """The power of two below or at a length, and the next one; all below 1,024 are one range."""
    low = 1 << (length.bit_length() - 1) if length >= 1024 else 0
    return f"{low:,}-{max(1024, 2 * low):,}"


def _grouped(items: Iterable[Prediction], key: Callable[[Prediction], str]) -> Groups[str]:
    groups: Groups[str] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def scores(items: Iterable[Prediction]) -> list[float]:
    """Scores of the predictions."""
    return [item.score for item in items]


def clustered_scores(items: Iterable[Prediction]) -> ClusteredScores:
    """Their scores, and which of them are about one context."""
    kept = list(items)
    return ClusteredScores(tuple(scores(kept)), tuple(item.context for item in kept))


def official_parts(
    report: BenchmarkReport, column: str = "score", keep: Callable[[Prediction], bool] | None = None
) -> dict[str, OfficialNumber]:
    """Tasks that have a number in a column of their official tables, and the scores that made it.

    Args:
        report: with its tables.
        column: of the tables; a table of one column is that of another metric.
        keep: which predictions made the column; `None` means all that count.
    """
    parts = {}
    for task, items in by_task(report).items():
        behind = clustered_scores(filter(keep, items) if keep else items)
        table = report.tables.get(task, {})
        value = table.get(column, next(iter(table.values())) if len(table) == 1 else math.nan)
        if behind and not math.isnan(value):
            parts[task] = OfficialNumber(value, behind)
    return parts


def official_parts_by_length(
    report: BenchmarkReport, column: Callable[[int], str] = str
) -> dict[int, dict[str, OfficialNumber]]:
    """`official_parts` of each length, ascending.

    Args:
        report: with its tables, which have a column for every length.
        column: of a length.
    """
    lengths = sorted({item.length for item in report.counted})
    return {length: official_parts(report, column(length), partial(_has, length)) for length in lengths}


def _has(length: int, item: Prediction) -> bool:
    return item.length == length
