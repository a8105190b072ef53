"""Two real processes answer like one."""

import json
from pathlib import Path

import pytest
from support import evaluation_worker, official_layout
from support.byte_tokenizer import byte_model
from support.ranks import run_command, run_ranks
from support.zero3 import needs_deepspeed

from evaluation import LongBench
from evaluation.reports.reading import load_report
from evaluation.running.responses import Responses
from evaluation.running.runner import Runner
from evaluation.running.settings import RunSettings
from lit_longpo.policy import PolicyConfig

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return byte_model(tmp_path_factory.mktemp("model"), max_position_embeddings=4096)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """An odd number of batches, of very different lengths, with different limits."""
    folder = official_layout.longbench(tmp_path_factory.mktemp("records"), {"hotpotqa": 3, "trec": 2}, tokens=4)
    limits = folder / "config" / "dataset2maxlen.json"
    limits.write_text(json.dumps({**json.loads(limits.read_text()), "trec": 2}))
    return folder


@pytest.fixture(scope="module")
def single(model, records):
    policy = PolicyConfig(source=str(model))
    settings = RunSettings(max_length=3000)
    return Runner(LongBench(records), policy.load_base(), policy.prompt_format(), settings, Responses()).run()


@pytest.mark.parametrize(
    "options",
    [(), ("--max_minutes", 60), ("--shard",)],
    ids=["dealt", "in a time box", "sharded"],
)
def test_the_command_on_two_processes(options, model, records, single, tmp_path):
    arguments = ["evaluate", "--config", ROOT / "configs" / "eval" / "longbench.yaml"]
    own = ["--model", model, "--benchmark.init_args.folder", records, "--output", tmp_path, "--max_length", 3000]
    batching = ["--batching.max_batch_tokens", 600, "--batching.prefill_chunk", 64, "--batching.min_shared", 0]
    run_command(*arguments, *own, *batching, "--accelerator", "cpu", "--devices", 2, *options, num_ranks=2)
    [path] = tmp_path.glob("longbench-step0.json")
    assert load_report(path).predictions == single.predictions
    answered = [path for path in tmp_path.rglob("predictions/**/*.jsonl") if path.name != "runs.jsonl"]
    rows = [line for path in answered for line in path.read_text().splitlines()]
    assert len(rows) == len(set(rows)) == len(single.predictions)


@pytest.mark.parametrize(
    "strategy",
    [
        "ddp",
        pytest.param("ulysses", marks=pytest.mark.slow),
        pytest.param("fsdp2", marks=pytest.mark.slow),
        pytest.param("zero3", marks=needs_deepspeed),
        pytest.param("ulysses_zero3", marks=[needs_deepspeed, pytest.mark.slow]),
    ],
)
def test_the_callback_on_two_processes(strategy, model, records, single, tmp_path):
    run_ranks(evaluation_worker.run, strategy, str(model), str(records), tmp_path)
    before, after = (load_report(tmp_path / "benchmarks" / f"longbench-step{step}.json") for step in (0, 3))
    assert before.predictions == single.predictions
    assert [row.id for row in after.predictions] == [row.id for row in before.predictions]
    assert after.predictions != before.predictions
    told = [(tmp_path / f"{rank}.txt").read_text() for rank in (0, 1)]
    assert told[0] == told[1]
    assert told[0].splitlines()[0] == f"0 {single.mean!r} {len(single.predictions)}"
