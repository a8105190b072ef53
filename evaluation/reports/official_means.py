"""Means of official numbers: LongBench's categories, LongBench-E's buckets, LV-Eval's levels, needle's lengths."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from evaluation.metrics.longbench import BUCKETS, TASKS
from evaluation.metrics.lveval import dataset_name
from evaluation.reports.grouping import by_task, scores
from evaluation.reports.intervals import Estimate, estimate_mean_of
from evaluation.reports.report import BenchmarkReport, Prediction


@dataclass(frozen=True)
class Part:
    """One official number and the scores behind it.

    Args:
        value: percent, rounded as the benchmark rounds.
        scores: 0 to 1, at least one.
    """

    value: float
    scores: list[float]


@dataclass(frozen=True)
class Mean:
    """A mean of the rounded numbers, as published tables have it.

    Args:
        parts: what it is of, by name; at least one.
        weights: of the parts, together 1; `None` means equal ones.
    """

    parts: Mapping[str, Part]
    weights: Mapping[str, float] | None = None

    @property
    def value(self) -> float:
        """0 to 1."""
        shares = self.weights or dict.fromkeys(self.parts, 1 / len(self.parts))
        return sum(shares[name] * part.value for name, part in self.parts.items()) / 100

    def estimate(self) -> Estimate:
        """With an interval from the scores."""
        found = estimate_mean_of({name: part.scores for name, part in self.parts.items()}, self.weights)
        return replace(found, mean=self.value)


Means = dict[str, Mean]
CATEGORIES = {"category": "en", "category_zh": "zh"}  # kinds of LongBench's means, and their tasks' language


def official_means(report: BenchmarkReport) -> dict[str, Means]:
    """Means by kind and name, for example of kind "level" that of "16k".

    LongBench: "category", and "category_zh" of the Chinese tasks; those without all of their tasks are left
    out. LongBench-E: "bucket". LV-Eval: "level" and "dataset", of whatever was run. Needle with several tasks:
    "length" and "task". Any other benchmark has none.
    """
    make = _MEANS.get(report.name)
    return make(report) if make else {}


def language_tasks(language: str) -> dict[str, str]:
    """Category of each LongBench task of a language, "en" or "zh"."""
    return {name: task.category for name, task in TASKS.items() if language in task.languages}


def _longbench(report: BenchmarkReport) -> dict[str, Means]:
    parts = official_parts(report)
    return {kind: _categories(parts, language) for kind, language in CATEGORIES.items()}


def _categories(parts: Mapping[str, Part], language: str) -> Means:
    """Of the complete categories, and the average if all of them are."""
    members: dict[str, list[str]] = {}
    for name, category in language_tasks(language).items():
        members.setdefault(category, []).append(name)
    means = {
        category: Mean({name: parts[name] for name in names})
        for category, names in members.items()
        if parts.keys() >= set(names)
    }
    if len(means) == len(members):
        weights = {name: 1 / len(members) / len(names) for names in members.values() for name in names}
        means["average"] = Mean({name: parts[name] for name in weights}, weights)
    return means


def _longbench_e(report: BenchmarkReport) -> dict[str, Means]:
    return {"bucket": _present({name: official_parts(report, name, partial(_is_in, name)) for name in BUCKETS})}


def _lveval(report: BenchmarkReport) -> dict[str, Means]:
    levels: dict[str, dict[str, Part]] = {}
    datasets: dict[str, dict[str, Part]] = {}
    for task, part in official_parts(report).items():
        name = dataset_name(task)
        level = task.removeprefix(f"{name}_")
        levels.setdefault(level, {})[name] = part
        datasets.setdefault(name, {})[level] = part
    return {"level": _present(levels), "dataset": _present(datasets)}


def _needle(report: BenchmarkReport) -> dict[str, Means]:
    if len(report.tables) < 2:
        return {}
    names = sorted({item.length for item in report.counted})
    lengths = {str(length): official_parts(report, str(length), partial(_has, length)) for length in names}
    tasks = {task: {task: part} for task, part in official_parts(report, "mean").items()}
    return {"length": _present(lengths), "task": _present(tasks)}


def _present(groups: Mapping[str, Mapping[str, Part]]) -> Means:
    return {name: Mean(parts) for name, parts in groups.items() if parts}


def official_parts(
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


_MEANS: Mapping[str, Callable[[BenchmarkReport], dict[str, Means]]] = {
    "longbench": _longbench,
    "longbench_e": _longbench_e,
    "lveval": _lveval,
    "needle": _needle,
}
