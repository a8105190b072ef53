"""The numbers of a report as TensorBoard has them."""

from math import isnan

from evaluation.benchmark import BenchmarkReport


def scalars(report: BenchmarkReport) -> dict[str, float]:
    """Scores between 0 and 1 by name.

    `benchmark/<name>/<task>` is the official number of a task; a table of several columns gives
    `benchmark/<name>/<task>/<column>`. The task that is named like the benchmark has no name of its own:
    `benchmark/longbench_v2/Overall`. Reports without tables give `benchmark/<name>/<length>`.
    `benchmark/<name>/mean` is the mean over all examples. Empty buckets (NaN) are left out.
    """
    root = f"benchmark/{report.name}"
    values = {} if report.tables else {f"{root}/{length}": score for length, score in report.by_length().items()}
    for task, table in report.tables.items():
        prefix = root if task == report.name else f"{root}/{task}"
        for column, value in table.items():
            if not isnan(value):
                values[prefix if column == "score" else f"{prefix}/{column}"] = value / 100
    return values | {f"{root}/mean": report.mean}
