"""The benchmarks' own summaries: LongBench's categories, LongBench-E's buckets, LV-Eval's levels, needle's lengths.

A mean that the benchmark defines over more tasks than were run is left out or called by another name, and the
note says what is missing.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from evaluation.benchmark import BenchmarkReport, Prediction
from evaluation.metrics.longbench import BUCKETS, TASKS
from evaluation.metrics.lveval import METRICS, dataset_name
from evaluation.reports.bootstrap import Estimate, estimate_mean_of
from evaluation.reports.grouping import by_task, scores
from evaluation.reports.section import Section, estimate_cells

_LANGUAGES = {"en": "English", "zh": "Chinese"}
_HEADER = ("examples", "mean", "interval")


@dataclass(frozen=True)
class Part:
    """One official number and the scores behind it.

    Args:
        value: percent, rounded as the benchmark rounds.
        scores: 0 to 1, at least one.
    """

    value: float
    scores: list[float]


def official_sections(report: BenchmarkReport) -> list[Section]:
    """Summaries by the benchmark's own formulas; none for a benchmark that has none."""
    make = _SUMMARIES.get(report.name)
    return make(report) if make else []


def mean_of(parts: Mapping[str, Part], weights: Mapping[str, float] | None = None) -> Estimate:
    """Mean of the rounded numbers, as published tables have it, with an interval from the scores."""
    shares = weights or dict.fromkeys(parts, 1 / len(parts))
    value = sum(shares[name] * part.value for name, part in parts.items())
    found = estimate_mean_of({name: part.scores for name, part in parts.items()}, shares)
    return replace(found, mean=value / 100)


def _longbench(report: BenchmarkReport) -> list[Section]:
    parts = _parts(report)
    return [_categories(parts, language) for language in _LANGUAGES if set(parts) & set(_tasks(language))]


def _tasks(language: str) -> dict[str, str]:
    """Category of each task of a language."""
    return {name: task.category for name, task in TASKS.items() if language in task.languages}


def _categories(parts: Mapping[str, Part], language: str) -> Section:
    tasks = _tasks(language)
    missing = [name for name in tasks if name not in parts]
    names: dict[str, list[str]] = {}
    for name, category in tasks.items():
        names.setdefault(category, []).append(name)
    rows = [
        (category, *estimate_cells(mean_of({name: parts[name] for name in members})))
        for category, members in names.items()
        if not set(members) & set(missing)
    ]
    if not missing:
        weights = {name: 1 / len(names) / len(names[category]) for name, category in tasks.items()}
        rows.append(("average", *estimate_cells(mean_of({name: parts[name] for name in tasks}, weights))))
    note = "Category: plain mean of its tasks. Average: plain mean of the categories, as in the paper."
    lack = f" Incomplete, so without what needs them, as these tasks were not run: {', '.join(missing)}."
    return Section(f"Categories, {_LANGUAGES[language]}", ("category", *_HEADER), rows, note + lack * bool(missing))


def _longbench_e(report: BenchmarkReport) -> list[Section]:
    columns = {name: _parts(report, name, partial(_is_in, name)) for name in BUCKETS}
    note = "Plain mean of the tasks that have examples in the bucket."
    return [_means("Buckets of length", "words", columns, note)]


def _needle(report: BenchmarkReport) -> list[Section]:
    lengths = sorted({item.length for item in report.predictions})
    columns = {str(length): _parts(report, str(length), partial(_has, length)) for length in lengths}
    return [_means("Tasks by length", "tokens", columns, "Plain mean of the tasks.")] if len(report.tables) > 1 else []


def _lveval(report: BenchmarkReport) -> list[Section]:
    levels: dict[str, dict[str, Part]] = {}
    datasets: dict[str, dict[str, Part]] = {}
    for task, part in _parts(report).items():
        name = dataset_name(task)
        level = task.removeprefix(f"{name}_")
        levels.setdefault(level, {})[name] = part
        datasets.setdefault(name, {})[level] = part
    missing = [name for name in METRICS if name not in datasets]
    lack = f" Not the leaderboard's, as these data sets were not run: {', '.join(missing)}." * bool(missing)
    rows = [(name, *(_cell(parts.get(level)) for level in levels)) for name, parts in datasets.items()]
    return [
        Section("Official table", ("data set", *levels), rows),
        _means("Levels", "level", levels, "Plain mean of the data sets." + lack),
        _means("Data sets", "data set", datasets, "Plain mean of the levels."),
    ]


def _means(title: str, label: str, columns: Mapping[str, Mapping[str, Part]], note: str) -> Section:
    rows = [(name, *estimate_cells(mean_of(parts))) for name, parts in columns.items() if parts]
    return Section(title, (label, *_HEADER), rows, note)


def _parts(
    report: BenchmarkReport, column: str = "score", keep: Callable[[Prediction], bool] | None = None
) -> dict[str, Part]:
    """Tasks that have a number in a column of their official tables, and the scores that made it."""
    parts = {}
    for task, items in by_task(report).items():
        found = scores(filter(keep, items) if keep else items)
        value = report.tables.get(task, {}).get(column, math.nan)
        if found and not math.isnan(value):
            parts[task] = Part(value, found)
    return parts


def _is_in(bucket: str, item: Prediction) -> bool:
    return item.groups.get("length") == bucket


def _has(length: int, item: Prediction) -> bool:
    return item.length == length


def _cell(part: Part | None) -> str:
    return f"{part.value:.2f}" if part else "-"


_SUMMARIES: Mapping[str, Callable[[BenchmarkReport], list[Section]]] = {
    "longbench": _longbench,
    "longbench_e": _longbench_e,
    "lveval": _lveval,
    "needle": _needle,
}
