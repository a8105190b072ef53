import pytest
from support import official_layout
from support.official_data import official

from evaluation import LongBench, LongBenchV2, LVEval, NeedleBenchmark
from evaluation.metrics.longbench import TASKS
from evaluation.reports.tables import head
from evaluation.running.results import TaskScores, make_report


def complete(bench, tasks=None):
    """All records chosen; how many there are is all that matters here."""
    counts = {task: len(list(bench.examples(task))) for task in tasks or bench.tasks}
    return {task: TaskScores((), {}, count, count) for task, count in counts.items()}


def said(report, start):
    return [text for text in report.deviations if text.startswith(start)]


def test_fewer_records_than_the_official_files_have_are_said(tmp_path):
    bench = LongBench(official_layout.longbench(tmp_path, {"hotpotqa": 3, "lcc": 2}))
    expected = "records: hotpotqa 3 of 200, lcc 2 of 500 official ones"
    assert said(make_report(bench, complete(bench)), "records") == [expected]
    whole = {"hotpotqa": TaskScores((), {}, 200, 200), "lcc": TaskScores((), {}, 500, 500)}
    assert not said(make_report(bench, whole), "records")


@pytest.mark.parametrize(
    ("make", "name", "task", "count"),
    [(LongBench, "longbench", "multifieldqa_en", 150), (LongBenchV2, "longbench_v2", "longbench_v2", 503)],
)
def test_a_sample_of_the_official_records_is_called_one(make, name, task, count):
    bench = make(official(name))
    scores = complete(bench)
    [text] = said(make_report(bench, scores), "records: ")
    assert f"{task} {scores[task].num_examples} of {count}" in text
    assert all(other in text for other in bench.tasks)


def test_official_counts_add_up(tmp_path):
    (tmp_path / "v1").mkdir()
    folder = official_layout.longbench(tmp_path / "v1", {"hotpotqa": 1, "hotpotqa_e": 1})
    plain, extended = LongBench(folder).official_counts, LongBench(folder, extended=True).official_counts
    assert set(plain) == set(TASKS)
    assert sum(plain.values()) == 4750
    assert (len(extended), extended["qasper_e"], extended["lcc_e"]) == (13, 224, 300)
    (tmp_path / "lveval").mkdir()
    bench = LVEval(official_layout.lveval(tmp_path / "lveval", 1))
    assert set(bench.official_counts) == set(bench.tasks)
    assert bench.official_counts["loogle_SD_mixup_32k"] == 160


def test_tasks_that_were_not_chosen_are_said(tmp_path):
    bench = LongBench(official_layout.longbench(tmp_path, {"hotpotqa": 2, "trec": 2, "samsum": 2}))
    assert said(make_report(bench, complete(bench, ["trec"])), "tasks not run") == ["tasks not run: hotpotqa, samsum"]
    assert not said(make_report(bench, complete(bench)), "tasks not run")


@pytest.mark.parametrize(("make", "layout"), [(LongBench, official_layout.longbench), (LVEval, official_layout.lveval)])
def test_what_always_differs_stands_in_the_head(make, layout, tmp_path):
    bench = make(layout(tmp_path, {"trec": 2} if make is LongBench else 2))
    report = make_report(bench, complete(bench))
    notes = dict(head(report))["notes"]
    assert "the tokenizer's chat template in place of the official" in notes
    assert "is not doubled" in notes
    assert not any("chat template" in text for text in report.deviations)


def test_a_benchmark_needs_neither_counts_nor_notes():
    bench = NeedleBenchmark(lengths=(100,), depths=(0.0,), num_examples=1)
    report = make_report(bench, complete(bench))
    assert not said(report, "records")
    assert "notes" not in dict(head(report))
