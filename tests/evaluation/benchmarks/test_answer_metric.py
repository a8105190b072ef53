import json

import pytest
from support import official_layout
from support.reports import table_of

from evaluation import InfiniteBench, LongBench, LVEval
from evaluation.metrics import sub_em
from evaluation.reports.grouping import official_parts
from evaluation.reports.report import BenchmarkReport
from evaluation.running.results import make_report

SAID = "She was called the Greta, in Oslo."


@pytest.fixture
def folder(tmp_path):
    official_layout.longbench(tmp_path / "v1", dict.fromkeys(("hotpotqa", "trec", "multi_news", "triviaqa"), 2))
    official_layout.lveval(tmp_path / "lv", 2)
    official_layout.infinitebench(tmp_path / "inf", 2)
    return tmp_path


def made(folder, metric, **options):
    yield LongBench(folder / "v1", metric=metric, **options)
    yield LVEval(folder / "lv", metric=metric)
    yield InfiniteBench(str(folder / "inf"), metric=metric)


def test_sub_em_is_that_of_the_papers_and_said(folder):
    for bench, task in zip(made(folder, "sub_em"), ("hotpotqa", "loogle_SD_mixup_16k", "longbook_qa_eng"), strict=True):
        examples = list(bench.examples(task))
        expected = [sub_em(SAID, example.answers) for example in examples]
        assert [bench.score(example, SAID) for example in examples] == expected
        assert max(expected) == 1.0
        assert table_of(bench, examples, [SAID, "x"]) == {"sub_em": 50.0}
        assert "scored by sub_em of the accepted answer" in bench.deviations[-1]
        assert make_report(bench, {}).settings["score of each answer"] == "sub_em"


def test_every_accepted_answer_counts_and_f1_has_no_gate(folder):
    _, lveval, infinite = made(folder, "f1")
    example = next(lveval.examples("loogle_SD_mixup_16k"))
    assert example.answers == ("Greta", "Oslo")
    assert lveval.score(example, "Oslo") == 1.0  # officially the first answer, behind the gate of its keywords
    assert infinite.score(next(infinite.examples("longbook_qa_eng")), "old Greta came") == pytest.approx(0.8)


def test_tasks_without_short_answers_are_left_out_or_refused(folder):
    longbench, _, infinite = made(folder, "em")
    assert longbench.tasks == ("hotpotqa",)
    assert "tasks left out: narrativeqa" in longbench.deviations[-2]
    assert not {"longbook_sum_eng", "longbook_choice_eng", "code_run"} & set(infinite.tasks)
    with pytest.raises(ValueError, match="got trec; correct `tasks`"):
        LongBench(folder / "v1", tasks=["trec"], metric="em")
    with pytest.raises(ValueError, match="got math_find; correct `tasks`"):
        InfiniteBench(str(folder / "inf"), tasks=["math_find"], metric="em")
    with pytest.raises(ValueError, match="expected a metric of official, sub_em, f1, em, got 'rouge'"):
        LVEval(folder / "lv", metric="rouge")


def test_official_scores_stay(folder):
    for bench, task in zip(made(folder, "official"), ("hotpotqa", "factrecall_en_16k", "passkey"), strict=True):
        examples = list(bench.examples(task))
        assert table_of(bench, examples[:1], list(examples[0].answers[:1])) == {"score": 100.0}
        assert "scored by" not in str(bench.deviations)


def test_answers_of_an_official_run_are_scored_by_any_metric(folder):
    """What answers depend on is the same; InfiniteBench's named the tasks of the metric, and `--rescore` refused."""
    for official, other in zip(made(folder, "official"), made(folder, "sub_em"), strict=True):
        assert official.settings == other.settings
        assert set(other.tasks) <= set(official.tasks)


def test_levels_are_means_of_the_chosen_metric_too(folder):
    _, bench, _ = made(folder, "sub_em")
    examples = {task: list(bench.examples(task)) for task in bench.tasks}
    tables = {task: table_of(bench, rows, [SAID, "x"]) for task, rows in examples.items()}
    rows = [example.answered(SAID, 1.0) for items in examples.values() for example in items]
    report = BenchmarkReport("lveval", 0, tuple(rows), tables=tables)
    assert official_parts(report).keys() == tables.keys()
    assert LVEval.means(report)["level"]["16k"].value == pytest.approx(0.5)
    assert json.dumps(tables).count("sub_em") == 4
