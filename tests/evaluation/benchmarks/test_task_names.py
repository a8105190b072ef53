import pytest
from support.command_line import CONFIGS

from evaluation import NeedleBenchmark
from evaluation.benchmarks.needle_tasks import NEEDLE_TASKS
from evaluation.benchmarks.task_names import SIMILAR, elsewhere
from evaluation.metrics.ruler import CATEGORIES, TASKS
from evaluation.running.settings import RunSettings
from lit_longpo import __main__ as command_line
from lit_longpo.errors import UserError

OURS = ("needle", *NEEDLE_TASKS)


@pytest.mark.parametrize(
    ("typed", "known", "told"),
    [
        ("niah_single_1", OURS, "`evaluate --config ruler`; the most similar one here is needle,"),
        ("niah_multivalue", OURS, "the most similar one here is multi_value, in other texts"),
        ("cwe", OURS, "cwe is a task of `evaluate --config ruler`"),
        ("needle", TASKS, "`evaluate --config needle`; the most similar one here is niah_single_1,"),
        ("multi_key", TASKS, "the most similar one here is niah_multikey_1, in other texts"),
        ("hotpotqa", OURS, "hotpotqa is a task of `evaluate --config longbench`"),
        ("longbook_qa_eng", OURS, "evaluate --config infinitebench"),
    ],
)  # fmt: skip
def test_a_name_of_another_benchmark_is_placed(typed, known, told):
    assert told in elsewhere([typed], known)


def test_a_name_that_nobody_has_is_not_placed():
    assert elsewhere(["nonsense"], OURS) == ""


def test_every_needle_task_of_rulers_has_a_similar_and_every_one_of_ours():
    assert set(SIMILAR) == {*CATEGORIES["NIAH"], *CATEGORIES["VT"]}
    assert set(SIMILAR.values()) == set(OURS)


def test_whoever_types_one_for_the_other_reads_it():
    with pytest.raises(
        UserError, match=r"expected tasks of needle, .*niah_single_1 is a task of `evaluate --config ruler`"
    ):
        NeedleBenchmark(tasks=("niah_single_1",))
    with pytest.raises(UserError, match="the most similar one here is needle"):
        RunSettings(tasks=["niah_single_1"]).chosen(NeedleBenchmark())
    given = [
        "--config",
        str(CONFIGS / "eval" / "needle.yaml"),
        "--benchmark.tasks",
        "[niah_single_1]",
        "--prepare_data",
    ]
    with pytest.raises(SystemExit, match="the most similar one here is needle"):
        command_line.main(["evaluate", *given])
