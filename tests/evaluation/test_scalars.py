from dataclasses import replace

import pytest
from support import reports

from evaluation.scalars import scalars


def test_official_numbers_are_named_by_task():
    report = reports.longbench(tasks=("qasper", "trec"))
    values = scalars(report)
    assert set(values) == {"benchmark/longbench/qasper", "benchmark/longbench/trec", "benchmark/longbench/mean"}
    assert values["benchmark/longbench/trec"] == pytest.approx(report.tables["trec"]["score"] / 100)
    assert values["benchmark/longbench/mean"] == report.mean


def test_needle_is_named_by_length():
    report = reports.needle(tasks=("needle",))
    assert set(scalars(report)) == {f"benchmark/needle/{name}" for name in ("512", "1024", "mean")}
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


def test_without_tables_a_task_has_its_mean():
    report = replace(reports.longbench(tasks=("trec",)), tables={})
    assert scalars(report) == {"benchmark/longbench/trec": report.mean, "benchmark/longbench/mean": report.mean}
