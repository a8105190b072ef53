"""The tables of a report."""

import math
from collections.abc import Iterable, Mapping

from evaluation.reports.grouping import by_depth, by_group, by_length, by_task, clustered_scores
from evaluation.reports.intervals import estimate, estimate_mean_of, method
from evaluation.reports.report import BenchmarkReport, Prediction
from evaluation.reports.table import ESTIMATE, Section, estimate_cells
from lit_longpo.files.plain_text import is_blank


def sections(report: BenchmarkReport) -> list[Section]:
    """Every table but the samples, in the order in which they are shown."""
    return [
        task_table(report),
        *report.rules.summary(report),
        *(_groups(f"Group: {name}", name, groups) for name, groups in by_group(report).items()),
        _groups("By length", "length", by_length(report), "Length in the benchmark's own unit."),
        *([_groups("By depth", "depth", _shares(report))] if by_depth(report) else []),
        truncation_table(report),
    ]


def task_table(report: BenchmarkReport) -> Section:
    """Official numbers of each task as they are, then the mean score of its examples with an interval."""
    tasks = by_task(report)
    columns = list(dict.fromkeys(name for table in report.tables.values() for name in table))
    empty = {
        task: sum(1 for item in items if is_blank(item.prediction)) for task, items in report.all_by_task().items()
    }
    rows = [
        (
            *(task, *_official(report.tables.get(task, {}), columns)),
            *(*estimate_cells(estimate(clustered_scores(items), task)), str(empty[task])),
        )
        for task, items in tasks.items()
    ]
    if len(tasks) > 1:
        blank = ("",) * len(columns)
        groups = {task: clustered_scores(items) for task, items in tasks.items()}
        rows += [
            ("mean of tasks", *blank, *estimate_cells(estimate_mean_of(groups)), ""),
            (
                "all examples",
                *blank,
                *estimate_cells(estimate(clustered_scores(report.counted))),
                str(sum(empty.values())),
            ),
        ]
    return Section(
        "Scores", ("task", *columns, "examples", "mean score", "interval", "empty responses"), rows, _note(report)
    )


def _note(report: BenchmarkReport) -> str:
    left_out = len(report.predictions) - len(report.counted)
    official = "The columns left of the examples' number are the official ones. " if report.tables else ""
    without = f"{left_out} {report.rules.left_out}. " if left_out else ""
    return f"Percent. {official}{without}{method(clustered_scores(report.counted))}"


def _official(table: Mapping[str, float], columns: Iterable[str]) -> list[str]:
    values = [table.get(name, math.nan) for name in columns]
    return ["-" if math.isnan(value) else f"{value:.2f}" for value in values]


def _groups(title: str, label: str, groups: Mapping[str, list[Prediction]], note: str = "") -> Section:
    rows = [(name, *estimate_cells(estimate(clustered_scores(items), name))) for name, items in groups.items()]
    return Section(title, (label, *ESTIMATE), rows, note)


def _shares(report: BenchmarkReport) -> dict[str, list[Prediction]]:
    return {f"{depth:.0%}": items for depth, items in by_depth(report).items()}


def truncation_table(report: BenchmarkReport) -> Section:
    """Prompts cut and tokens lost, by task."""
    header = ("task", "examples", "cut", "tokens", "tokens lost", "share lost")
    if not any(item.num_tokens for item in report.predictions):
        return Section("Truncation", header, [], "Tokens were not counted in this run.")
    rows = [
        (
            *(task, str(cut.num_examples), str(cut.num_cut)),
            *(f"{cut.num_tokens:,}", f"{cut.num_lost:,}", f"{cut.num_lost / max(1, cut.num_tokens):.1%}"),
        )
        for task, cut in report.truncation().items()
    ]
    return Section("Truncation", header, rows, "Tokens of the filled prompt, before the chat template.")


def head(report: BenchmarkReport) -> list[tuple[str, str]]:
    """What was run, as label and text."""
    return [
        ("benchmark", report.name),
        ("model", report.model or "not stated"),
        ("step", f"{report.step:,}"),
        ("examples", f"{len(report.predictions):,}"),
        ("protocol", report.protocol or "not stated"),
        *([("notes", "; ".join(report.notes))] if report.notes else []),
        ("deviations", "; ".join(report.deviations) or "none"),
        *((name, "none" if value is None else str(value)) for name, value in report.settings.items()),
    ]
