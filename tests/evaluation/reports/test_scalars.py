from dataclasses import replace
from statistics import fmean

import pytest
from support import reports
from support.reports import averages

from evaluation.reports.scalars import scalars


def test_official_numbers_are_named_by_task():
    report = reports.longbench(tasks=("qasper", "trec"))
    values = scalars(report)
    assert set(values) == {"benchmark/longbench/qasper", "benchmark/longbench/trec", "benchmark/longbench/mean"}
    assert values["benchmark/longbench/trec"] == pytest.approx(report.tables["trec"]["score"] / 100)
    assert values["benchmark/longbench/mean"] == report.mean


def test_needle_is_named_by_length():
    report = reports.needle(tasks=("needle",))
    names = ("512", "1024", "mean", "depth/0", "depth/0.5", "depth/1")
    assert set(scalars(report)) == {f"benchmark/needle/{name}" for name in names}
    untold = scalars(replace(report, tables={}))
    assert untold == pytest.approx(scalars(report), abs=1e-4)


def test_other_needle_tasks_have_a_folder_of_their_own():
    values = scalars(reports.needle())
    assert {"benchmark/needle/512", "benchmark/needle/multi_value/512", "benchmark/needle/multi_value/mean"} <= set(
        values
    )
    assert values["benchmark/needle/mean"] == reports.needle().mean


def test_buckets_and_groups_are_named_and_empty_ones_left_out():
    values = scalars(reports.longbench_e())
    assert "benchmark/longbench_e/trec_e/0-4k" in values
    assert "benchmark/longbench_e/trec_e/8k+" not in values
    assert "benchmark/longbench_v2/Overall" in scalars(reports.longbench_v2())


def part(values, folder):
    """Values below a name, by the rest of their names."""
    return {name.removeprefix(folder): value for name, value in values.items() if name.startswith(folder)}


def test_longbenchs_categories_have_names():
    report = reports.longbench()
    values, official = scalars(report), {task: table["score"] for task, table in report.tables.items()}
    for kind, language in (("category", "en"), ("category_zh", "zh")):
        expected = {name: mean / 100 for name, mean in averages(official, language).items()}
        assert part(values, f"benchmark/longbench/{kind}/") == pytest.approx(expected)
    some = scalars(reports.longbench(tasks=("trec", "triviaqa", "samsum")))
    assert set(part(some, "benchmark/longbench/category")) == {"/few-shot"}  # what lacks a task has no mean


def test_lvevals_levels_and_data_sets_have_names():
    report = reports.lveval(datasets=("cmrc_mixup", "factrecall_en"))
    values, tables = scalars(report), report.tables
    levels = {
        level: fmean(tables[f"{name}_{level}"]["score"] for name in ("cmrc_mixup", "factrecall_en")) / 100
        for level in ("16k", "32k")
    }
    assert part(values, "benchmark/lveval/level/") == pytest.approx(levels)
    assert set(part(values, "benchmark/lveval/dataset/")) == {"cmrc_mixup", "factrecall_en"}


def test_buckets_of_longbench_e_have_names():
    report = reports.longbench_e()
    expected = fmean(table["0-4k"] for table in report.tables.values()) / 100
    values = part(scalars(report), "benchmark/longbench_e/bucket/")
    assert values["0-4k"] == pytest.approx(expected)
    assert set(values) == {"0-4k", "4-8k"}


def test_needles_depths_tasks_and_lengths_have_names():
    report = reports.needle(tasks=("needle", "multi_key"))
    values = scalars(report)
    middle = fmean(item.score for item in report.predictions if item.depth == 0.5)
    assert values["benchmark/needle/depth/0.5"] == pytest.approx(middle)
    tasks = {task: table["mean"] / 100 for task, table in report.tables.items()}
    assert part(values, "benchmark/needle/task/") == pytest.approx(tasks)
    lengths = {name: fmean(table[name] for table in report.tables.values()) / 100 for name in ("512", "1024")}
    assert part(values, "benchmark/needle/length/") == pytest.approx(lengths)


def test_responses_that_do_not_count_have_no_mean():
    report = reports.longbench_v2()
    assert scalars(report)["benchmark/longbench_v2/mean"] == pytest.approx(
        report.tables["longbench_v2"]["Overall"] / 100, abs=5e-4
    )
    empty = tuple(replace(item, prediction="") for item in report.predictions)
    assert scalars(replace(report, predictions=empty)) == {}


def test_without_tables_a_task_has_its_mean():
    report = replace(reports.longbench(tasks=("trec",)), tables={})
    assert scalars(report) == {"benchmark/longbench/trec": report.mean, "benchmark/longbench/mean": report.mean}
