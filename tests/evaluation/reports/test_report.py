import json
from dataclasses import replace

import pytest
from support import reports

from evaluation.metrics import aggregate
from evaluation.reports.intervals import Mean, OfficialNumber
from evaluation.reports.reading import load_report
from evaluation.reports.report import BenchmarkReport, Prediction, ReportRules, TruncationCounts
from evaluation.reports.scalars import scalars
from evaluation.reports.table import means_section
from evaluation.reports.tables import sections as tables_of


def answers(*responses, name="longbench_v2"):
    rows = [
        Prediction(str(number), 10 * number, None, "Which?", ("A",), text, float(text.endswith("A")), task=name)
        for number, text in enumerate(responses)
    ]
    return BenchmarkReport(name, 0, tuple(rows))


def saved(report, folder, *sections):
    report.save(folder / "report.json", *sections)
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def test_means_leave_out_what_the_official_table_of_v2_leaves_out():
    responses = ["The correct answer is A", "The correct answer is B", ""]
    report = answers(*responses)
    assert 100 * report.mean == aggregate("longbench_v2", "", responses, [["A"]] * 3) == 50.0
    assert report.by_length() == {0: 1.0, 10: 0.0}
    assert answers(*responses, name="longbench").mean == pytest.approx(1 / 3)  # an empty response is a wrong one


def test_a_mean_of_nothing_becomes_null(tmp_path):
    report = answers("", "")
    assert saved(report, tmp_path)["scores"] == {"mean": None, "by_length": {}, "cells": []}
    assert load_report(tmp_path / "report.json") == report


def test_cells_hold_what_has_a_depth_by_task(tmp_path):
    report = reports.needle(tasks=("needle", "multi_key", "multi_value"), depths=(0.0, 0.5))
    cells = saved(report, tmp_path)["scores"]["cells"]
    assert [(cell["task"], cell["depth"], cell["length"]) for cell in cells] == [
        (task, depth, length) for task in ("multi_key", "needle") for depth in (0.0, 0.5) for length in (512, 1024)
    ]
    [first] = [item for item in cells if (item["task"], item["depth"], item["length"]) == ("needle", 0.0, 512)]
    alone = replace(report, predictions=tuple(item for item in report.predictions if item.task == "needle"))
    assert first["score"] == alone.by_cell()[0.0, 512]
    assert saved(reports.longbench(tasks=("trec",)), tmp_path)["scores"]["cells"] == []


def test_sections_are_for_readers_of_the_file(tmp_path):
    report = replace(reports.longbench(), notes=("one", "two"))
    sections = {
        section["title"]: section
        for section in saved(report, tmp_path, [section.plain() for section in tables_of(report)])["sections"]
    }
    assert {"Scores", "Categories, English", "Categories, Chinese", "Truncation"} <= set(sections)
    [average] = [row for row in sections["Categories, English"]["rows"] if row[0] == "average"]
    interval = average[sections["Categories, English"]["header"].index("interval")]
    assert " to " in interval
    assert load_report(tmp_path / "report.json") == report


def cut(num_tokens, num_lost):
    return Prediction("a", 1, None, "", (), "", 0.0, num_tokens=num_tokens, num_lost=num_lost)


def test_truncation_is_counted():
    assert str(TruncationCounts.of([cut(100, 0), cut(300, 100)])) == "1 of 2 cut, 100 tokens lost (25.0%)"
    assert str(TruncationCounts.of([])) == "0 of 0 cut, 0 tokens lost (0.0%)"


class Halves(ReportRules):
    """Rules of a made-up benchmark: every other answer counts."""

    name, names, left_out = "halves", ("thirds",), "answers with odd ids are left out of every mean"

    @classmethod
    def counts(cls, prediction):
        return int(prediction.id) % 2 == 0

    @classmethod
    def means(cls, report):
        return {"kind": {"one": Mean({"halves": OfficialNumber(25.0, [item.score for item in report.counted])})}}

    @classmethod
    def summary(cls, report):
        return [means_section("Kinds", "kind", cls.means(report)["kind"], "A note.")]


@pytest.mark.parametrize("name", ["halves", "thirds"])
def test_a_report_follows_the_rules_of_its_name(name):
    report = answers("A", "B", "B", "A", name=name)
    assert [item.id for item in report.counted] == ["0", "2"]
    assert report.mean == 0.5
    assert scalars(report)[f"benchmark/{name}/kind/one"] == 0.25
    tables = {section.title: section for section in tables_of(report)}
    assert tables["Kinds"].rows[0][:3] == ("one", "2", "25.00")
    assert "2 answers with odd ids are left out of every mean. " in tables["Scores"].note


def test_a_name_of_nobody_has_the_plain_rules():
    report = answers("A", "B", name="nobody's")
    assert report.rules is ReportRules
    assert report.counted == report.predictions
    assert (report.rules.means(report), report.rules.summary(report)) == ({}, [])
