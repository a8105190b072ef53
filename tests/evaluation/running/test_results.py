from dataclasses import replace

import pytest
from support import official_layout
from support.official_data import official

from evaluation import LongBench, LongBenchV2, LVEval, NeedleBenchmark
from evaluation.metrics.longbench import TASKS
from evaluation.reports.tables import head
from evaluation.running.responses import Responses, StoredResponse, record_hash
from evaluation.running.results import make_report
from evaluation.running.task_scores import TaskScores, score_task


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


def answered(bench, texts):
    """Responses to the first examples, as every process has them."""
    examples, responses = list(bench.examples("hotpotqa")), Responses()
    for example, text in zip(examples, texts, strict=False):
        responses.remember(
            "hotpotqa", [StoredResponse(example.id, 0, text, 10, 0, record_hash(example), False, False, False)]
        )
    return examples, responses


TEXTS = ("Greta", "by Greta", "Oslo", "Greta in Oslo", "")


def test_thoughts_are_not_scored(tmp_path):
    """Candidates in them are no answers, and their words no wrong ones (lighteval#869, lm-evaluation-harness#3675)."""
    texts = ("<think>\nOslo?\n</think>\n\nGreta", "Greta or Oslo?</think>Oslo", "<think>Greta", "Greta", "Greta, or")
    bench = LongBench(official_layout.longbench(tmp_path, {"hotpotqa": 6}))
    examples, responses = answered(bench, texts)
    last = replace(responses.of_task("hotpotqa")[-1], thinks=True)  # the prompt opened thoughts
    responses.remember("hotpotqa", [last])
    part = score_task(bench, examples, responses, 6)
    assert [item.prediction for item in part.predictions] == ["Greta", "Oslo", "", "Greta", ""]
    assert [item.score for item in part.predictions] == [1.0, 0.0, 0.0, 1.0, 0.0]
    report = make_report(bench, {"hotpotqa": part})
    assert said(report, "thoughts") == [
        "thoughts (<think>) are left out of answers before these are scored: hotpotqa 4 of 5"
    ]
    [cut_off] = said(report, "still thinking")
    assert cut_off.startswith("still thinking when the tokens were over: hotpotqa 2 of 4; raise")
    assert not said(make_report(bench, {"hotpotqa": score_task(bench, *answered(bench, TEXTS), 6)}), "thoughts")


def test_text_in_unknown_marks_is_scored_and_told(tmp_path):
    """Known ones are left out, whatever the template (openhuman#6184)."""
    texts = ("<reasoning>Oslo?</reasoning>Greta", "<scratchpad>Oslo?</scratchpad> Greta", "Greta", "Greta", "Greta")
    bench = LongBench(official_layout.longbench(tmp_path, {"hotpotqa": 6}))
    part = score_task(bench, *answered(bench, texts), 6)
    assert [item.prediction for item in part.predictions[:2]] == ["Greta", texts[1]]
    assert said(make_report(bench, {"hotpotqa": part}), "scored with text") == [
        "scored with text in marks that are not known, such as <answer>, at their beginning: hotpotqa 1 of 5"
    ]
