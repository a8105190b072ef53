"""The numbers of a report as TensorBoard has them."""

from collections.abc import Mapping
from math import isnan
from statistics import fmean

from evaluation.reports.grouping import by_depth, by_task, is_grid, scores
from evaluation.reports.report import BenchmarkReport


def scalars(report: BenchmarkReport) -> dict[str, float]:
    """Scores between 0 and 1 by name.

    `benchmark/<name>/<task>` is the official number of a task; a table of several columns gives
    `benchmark/<name>/<task>/<column>`. The task that is named like the benchmark has no name of its own:
    `benchmark/needle/<length>`, `benchmark/longbench_v2/Overall`. `benchmark/<name>/mean` is the mean over
    all examples. The benchmark's own means are named by kind (`ReportRules.means`), for example
    `benchmark/longbench/category/few-shot`, `benchmark/lveval/level/16k`, and scores by depth
    `benchmark/needle/depth/0.25`. Means of nothing (NaN) are left out.
    """
    root = f"benchmark/{report.name}"
    depths = {f"depth/{depth:g}": fmean(scores(items)) for depth, items in by_depth(report).items()}
    more = {**_means(report), **depths, "mean": report.mean}
    values = {**_tasks(report, root), **{f"{root}/{name}": value for name, value in more.items()}}
    return {name: value for name, value in values.items() if not isnan(value)}


def _tasks(report: BenchmarkReport, root: str) -> dict[str, float]:
    values = {}
    for task in by_task(report):
        prefix = root if task == report.name else f"{root}/{task}"
        for column, value in _columns(report, task).items():
            values[prefix if column == "score" else f"{prefix}/{column}"] = value
    return values


def _columns(report: BenchmarkReport, task: str) -> Mapping[str, float]:
    """Official numbers of a task; without a table its mean, and that of each chosen length."""
    table = report.tables.get(task)
    if table is not None:
        return {column: value / 100 for column, value in table.items()}
    items = by_task(report)[task]
    part = BenchmarkReport(report.name, report.step, tuple(items))
    lengths = {str(length): score for length, score in part.by_length().items()} if is_grid(items) else {}
    return lengths | {"mean" if task == report.name else "score": part.mean}


def _means(report: BenchmarkReport) -> dict[str, float]:
    kinds = report.rules.means(report).items()
    return {f"{kind}/{name}": mean.value for kind, means in kinds for name, mean in means.items()}
