"""The benchmark that CONTRIBUTING shows is one, and runs."""

from pathlib import Path

import pytest

from evaluation.benchmark import Benchmark
from evaluation.report import html, write_report
from evaluation.responses import Responses
from evaluation.runner import Runner
from evaluation.settings import RunSettings
from lit_longpo.policy import PolicyConfig

TEXT = (Path(__file__).resolve().parents[1] / "CONTRIBUTING.md").read_text()


@pytest.fixture
def benchmark():
    code = TEXT.partition("## Add a benchmark")[2].partition("```python\n")[2].partition("```")[0]
    names = {}
    exec(code, names)
    return names["Capitals"]()


def test_the_shown_benchmark_runs_and_has_a_report(benchmark, policy_folder, tmp_path):
    assert isinstance(benchmark, Benchmark)
    policy = PolicyConfig(source=str(policy_folder))
    runner = Runner(benchmark, policy.load(), policy.prompt_format(), RunSettings(max_length=200), Responses())
    report = runner.run(name="tiny")
    assert [item.id for item in report.predictions] == ["europe/Norway", "europe/Italy"]
    assert set(report.tables) == {"europe"}
    assert len(write_report(report, tmp_path)) == 3
    assert "our own, version 1" in html(report)


def test_the_shown_benchmark_scores_what_it_asks(benchmark):
    examples = list(benchmark.examples("europe"))
    assert benchmark.table(examples, ["It is Oslo.", "Oslo"]) == {"score": 50.0}
