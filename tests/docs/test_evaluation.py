"""The benchmark that docs/evaluation.md shows runs: in Python, and from the command line."""

import sys

import pytest
from support import pages
from support.reports import table_of

from evaluation.benchmark import Benchmark
from evaluation.reports.pages import Pages
from evaluation.running.responses import Responses
from evaluation.running.runner import Runner
from evaluation.running.settings import RunSettings
from lit_longpo import __main__ as command
from lit_longpo.policy import PolicyConfig

pytestmark = pytest.mark.usefixtures("blank_pictures")

PAGE = "docs/evaluation.md"
CODE = pages.snippet(PAGE, "## A benchmark of your own")


@pytest.fixture
def benchmark():
    names = {}
    exec(CODE, names)
    return names["Capitals"]()


def test_the_shown_benchmark_runs_and_has_a_report(benchmark, policy_folder, tmp_path):
    assert isinstance(benchmark, Benchmark)
    policy = PolicyConfig(source=str(policy_folder))
    runner = Runner(benchmark, policy.load(), policy.prompt_format(), RunSettings(max_length=200), Responses())
    report = runner.run(name="tiny")
    assert [item.id for item in report.predictions] == ["europe/Norway", "europe/Italy"]
    assert set(report.tables) == {"europe"}
    assert len(Pages(report).write(tmp_path)) == 3
    assert "our own, version 1" in Pages(report).page.html()


def test_the_shown_benchmark_is_asked_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [path for path in sys.path if path])
    (tmp_path / "capitals.py").write_text(CODE)
    callback = ["--trainer.callbacks+", "BenchmarkCallback", "--trainer.callbacks.benchmark", "capitals.Capitals"]
    assert " ".join(callback) in pages.text(PAGE)
    with pytest.raises(SystemExit):
        command.main(["fit", "--config", "solopo", *callback, "--print_config"])
    assert "class_path: capitals.Capitals" in capsys.readouterr().out
    command.main(["evaluate", "--benchmark", "capitals.Capitals", "--model", "embedded", "--output", "runs/capitals"])
    assert (tmp_path / "runs/capitals/capitals-step0.json").is_file()


def test_the_shown_benchmark_scores_what_it_asks(benchmark):
    assert table_of(benchmark, list(benchmark.examples("europe")), ["It is Oslo.", "Oslo"]) == {"score": 50.0}
