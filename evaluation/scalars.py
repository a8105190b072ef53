"""The numbers of a report as TensorBoard has them."""

from collections.abc import Mapping
from math import isnan

from evaluation.benchmark import BenchmarkReport
from evaluation.reports.grouping import by_task, is_grid


def scalars(report: BenchmarkReport) -> dict[str, float]:
    """Scores between 0 and 1 by name.

    `benchmark/<name>/<task>` is the official number of a task; a table of several columns gives
    `benchmark/<name>/<task>/<column>`. The task that is named like the benchmark has no name of its own:
    `benchmark/needle/<length>`, `benchmark/longbench_v2/Overall`. `benchmark/<name>/mean` is the mean over
    all examples. Empty buckets (NaN) are left out.
    """
    root = f"benchmark/{report.name}"
    values: dict[str, float] = {}
    for task in by_task(report):
        prefix = root if task == report.name else f"{root}/{task}"
        for column, value in _columns(report, task).items():
            if not isnan(value):
                values[prefix if column == "score" else f"{prefix}/{column}"] = value
    return values | {f"{root}/mean": report.mean}


def _columns(report: BenchmarkReport, task: str) -> Mapping[str, float]:
    """Official numbers of a task; without a table its mean, and that of each chosen length."""
    table = report.tables.get(task)
    if table is not None:
        return {column: value / 100 for column, value in table.items()}
    items = by_task(report)[task]
    part = BenchmarkReport(report.name, report.step, tuple(items))
    lengths = {str(length): score for length, score in part.by_length().items()} if is_grid(items) else {}
    return lengths | {"mean" if task == report.name else "score": part.mean}
