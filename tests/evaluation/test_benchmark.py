"""What every benchmark brings, and that nothing else has to know it."""

import inspect
from pathlib import Path

import pytest
import yaml
from support import made_up_records
from support.command_line import CONFIGS, build

import evaluation
from evaluation.benchmark import Benchmark
from evaluation.callbacks.benchmark import BenchmarkCallback

ROOT = Path(evaluation.__file__).parent
BENCHMARKS = [item for item in vars(evaluation).values() if inspect.isclass(item) and issubclass(item, Benchmark)]
RENAMED = {"needle": {"seed": "needle_seed"}, "ruler": {"seed": "ruler_seed"}}
CALLED = {"needle": "configs/eval/needle.yaml", "qa": "configs/eval/qa.yaml", "openai_mrcr": "OpenAI-MRCR"}
TITLES = {"longbench_v2": "longbench_v2", "lveval": "LV-Eval", "longbench_pro": "LongBench Pro"}


def callback_of(benchmark):
    return getattr(evaluation, f"{benchmark.__name__.removesuffix('Benchmark')}Callback", None)


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda item: item.name)
def test_it_has_a_callback_with_all_of_its_options(benchmark):
    callback = callback_of(benchmark)
    assert issubclass(callback, BenchmarkCallback)
    known = {*inspect.signature(callback).parameters, *inspect.signature(BenchmarkCallback).parameters}
    names = RENAMED.get(benchmark.name, {})
    wanted = {names.get(name, name) for name in inspect.signature(benchmark).parameters}
    assert wanted - known <= {"questions"}  # of QA, a Python object


def class_in(path):
    """The path of a benchmark's class; one without arguments may be named in a word."""
    named = yaml.safe_load(path.read_text()).get("benchmark", {})
    return named if isinstance(named, str) else named.get("class_path", "")


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda item: item.name)
def test_it_has_a_configuration_a_page_and_a_test(benchmark):
    paths = (CONFIGS / "eval").glob("*.yaml")
    [path] = [path for path in paths if class_in(path).rpartition(".")[2] == benchmark.__name__]
    stated = set(yaml.safe_load(path.read_text())["benchmark"]["init_args"])
    assert set(inspect.signature(benchmark).parameters) - stated <= {"tasks"}
    page = (ROOT.parent / "docs" / "evaluation.md").read_text()
    assert CALLED.get(benchmark.name, TITLES.get(benchmark.name, benchmark.__name__)) in page
    module = Path(inspect.getfile(benchmark)).relative_to(ROOT)
    assert (ROOT.parent / "tests" / "evaluation" / module.parent / f"test_{module.name}").is_file()


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda item: item.name)
def test_who_runs_and_reports_it_does_not_know_it(benchmark):
    """Adding one takes one file: nothing in these rooms may have to name it."""
    for room in ("running", "reports"):
        for path in (ROOT / room).rglob("*.py"):
            code = [
                line for line in path.read_text().splitlines() if "import" in line or "==" in line or " in (" in line
            ]
            assert not any(f'"{benchmark.name}"' in line or benchmark.__name__ in line.split() for line in code), path


@pytest.mark.parametrize("name", ["graphwalks", "mrcr", "longbench_pro"])
def test_yaml_finds_callbacks_of_named_files(name, tmp_path):
    [benchmark] = [item for item in BENCHMARKS if item.name.endswith(name)]
    callback = callback_of(benchmark)
    options = [
        word.replace("--benchmark.", "--trainer.callbacks.") for word in made_up_records.arguments(name, tmp_path)
    ]
    given = ["--trainer.callbacks+", callback.__name__, *options, "--trainer.callbacks.limit", 3]
    cli = build("--config", CONFIGS / "solopo.yaml", *given)
    [made] = [item for item in cli.trainer.callbacks if isinstance(item, callback)]
    assert (type(made.benchmark), made.settings.limit) == (benchmark, 3)
