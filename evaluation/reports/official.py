"""The benchmarks' own summaries: LongBench's categories, LongBench-E's buckets, LV-Eval's levels, needle's lengths.

A mean that the benchmark defines over more than was run is left out or called by another name, and the note says
what is missing.
"""

from collections.abc import Callable, Collection, Mapping

from evaluation.metrics.lveval import LEVELS, METRICS
from evaluation.reports.official_means import CATEGORIES, Means, Part, language_tasks, official_means, official_parts
from evaluation.reports.report import BenchmarkReport
from evaluation.reports.table import Section, estimate_cells

_HEADER = ("examples", "mean", "interval")
_LANGUAGES = {"en": "English", "zh": "Chinese"}


def official_sections(report: BenchmarkReport) -> list[Section]:
    """Summaries by the benchmark's own formulas; none for a benchmark that has none."""
    make = _SUMMARIES.get(report.name)
    return make(report) if make else []


def _longbench(report: BenchmarkReport) -> list[Section]:
    run, means = official_parts(report), official_means(report)
    return [
        _categories(means[kind], language, run)
        for kind, language in CATEGORIES.items()
        if run.keys() & language_tasks(language)
    ]


def _categories(means: Means, language: str, run: Collection[str]) -> Section:
    missing = [name for name in language_tasks(language) if name not in run]
    note = "Category: plain mean of its tasks. Average: plain mean of the categories, as in the paper."
    lack = f" Incomplete, so without what needs them, as these tasks were not run: {', '.join(missing)}."
    return _means(f"Categories, {_LANGUAGES[language]}", "category", means, note + lack * bool(missing))


def _longbench_e(report: BenchmarkReport) -> list[Section]:
    note = "Plain mean of the tasks that have examples in the bucket."
    return [_means("Buckets of length", "words", official_means(report)["bucket"], note)]


def _needle(report: BenchmarkReport) -> list[Section]:
    means = official_means(report)
    return [_means("Tasks by length", "tokens", means["length"], "Plain mean of the tasks.")] if means else []


def _lveval(report: BenchmarkReport) -> list[Section]:
    means = official_means(report)
    levels, datasets = means["level"], means["dataset"]
    rows = [(name, *(_cell(mean.parts.get(level)) for level in levels)) for name, mean in datasets.items()]
    of_levels = "Plain mean of the data sets." + _lack(levels, METRICS, "Not the leaderboard's")
    of_datasets = "Plain mean of the levels." + _lack(datasets, LEVELS, "Not of all levels")
    return [
        Section("Official table", ("data set", *levels), rows),
        _means("Levels", "level", levels, of_levels),
        _means("Data sets", "data set", datasets, of_datasets),
    ]


def _lack(means: Means, wanted: Collection[str], title: str) -> str:
    """A sentence on what each mean lacks, or nothing; those that lack the same are named together."""
    lacking: dict[str, list[str]] = {}
    for name, mean in means.items():
        if missing := ", ".join(part for part in wanted if part not in mean.parts):
            lacking.setdefault(missing, []).append(name)
    told = [
        f"{'all' if 1 < len(names) == len(means) else ', '.join(names)} without {missing}"
        for missing, names in lacking.items()
    ]
    return f" {title}, as not everything was run: {'; '.join(told)}." if told else ""


def _means(title: str, label: str, means: Means, note: str) -> Section:
    rows = [(name, *estimate_cells(mean.estimate())) for name, mean in means.items()]
    return Section(title, (label, *_HEADER), rows, note)


def _cell(part: Part | None) -> str:
    return f"{part.value:.2f}" if part else "-"


_SUMMARIES: Mapping[str, Callable[[BenchmarkReport], list[Section]]] = {
    "longbench": _longbench,
    "longbench_e": _longbench_e,
    "lveval": _lveval,
    "needle": _needle,
}
