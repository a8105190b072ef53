"""`plan --longest`: what it prints is planned as it says, and one step more does not fit."""

import json
import re
import shlex
from types import SimpleNamespace

import pytest
from rich.console import Console
from support.command_line import CONFIGS
from support.tiny_models import tiny_config

from lit_longpo.errors import InputError
from lit_longpo.planning.command import PlanCLI, configuration_of, plan, plan_for, with_goal
from lit_longpo.planning.conflicts import refusal
from lit_longpo.planning.inputs.architecture import find_config
from lit_longpo.planning.longest import choices, find_longest
from lit_longpo.planning.longest.commands import _without_options
from lit_longpo.planning.longest.search import Search, best_with_each
from lit_longpo.planning.planner import chosen_mode
from lit_longpo.planning.report import _longest_table


@pytest.fixture
def words(tmp_path):
    """Of a plan for two GPUs and a model whose rows are soon long enough for the longest tiles."""
    (tmp_path / "config.json").write_text(json.dumps(tiny_config("Llama").to_dict()))
    shape = ("--shape", str(tmp_path / "config.json"), "--response_tokens", "16", "--device_memory_gib", "0.25")
    return ["--config", str(CONFIGS / "dpo.yaml"), "--trainer.accelerator", "gpu", "--trainer.devices", "2", *shape]


def configured(words):
    return configuration_of(PlanCLI(args=words).config)


@pytest.mark.slow
def test_the_printed_command_fits_and_a_step_more_does_not(words, tmp_path, capsys):
    file = tmp_path / "found.json"
    plan([*words, "--longest", "whole", "--json", str(file)])
    found = json.loads(file.read_text())
    again = shlex.split(found["plan"])
    assert again[:4] == ["python", "-m", "lit_longpo", "plan"]
    assert found["plan"] in capsys.readouterr().out
    planned = plan_for(again[4:])
    assert planned.fits
    assert (planned.row.num_tokens, planned.row.num_examples) == (found["best"]["row_tokens"], 1)
    assert planned.memory[planned.mode].peak == found["best"]["peak"]
    at = again.index("--row_tokens") + 1
    longer = [*again[4:at], str(int(again[at]) + 1024), *again[at + 1 :]]
    assert not plan_for(longer).fits
    assert abs(found["traced_to_added_up"]) < 0.02
    for ways in found["choices"].values():
        assert max(way["row_tokens"] for way in ways.values()) == found["best"]["row_tokens"]
    by_activations = {name: way["row_tokens"] for name, way in found["choices"]["activations"].items()}
    assert by_activations["keep all"] < by_activations["recompute"] <= by_activations["offload"]


def test_what_is_left_out_is_the_longest_of_nothing(words, monkeypatch):
    """Each choice's longest row is the one of a search over all ways; memory is a line for each way here."""
    run = configured(words)
    config, _ = find_config(run.policy, run.options.shape)

    def line(self, parts, run):
        label = {name: label for part in parts for name, label in part.labels.items()}
        lasting = 2_000_000 * len(label["strategy"] + label["optimizer"])
        rate = {"all trained": 500, "LoRA": 300}.get(label["weights"], 400) * (2 + len(label["activations"]) % 5)

        def memory(row, mode):
            return SimpleNamespace(peak=lasting + rate * row.long_tokens // run.sharding.sequence_parallel, host=0)

        looked_at.append(label)
        return SimpleNamespace(memory=memory)

    def rows():
        looked_at.clear()
        table = best_with_each(Search(run, config).candidates())
        return {(name, label): each.tokens for name, ways in table.items() for label, each in ways.items()}

    def forgetful(self, *way):
        self.longest = {}
        return search(self, *way)

    looked_at, search = [], Search._longest
    monkeypatch.setattr(Search, "_planner", line)
    few, number = rows(), len(looked_at)
    monkeypatch.setattr(Search, "_longest", forgetful)
    monkeypatch.setattr(Search, "_bound", lambda *_: float("inf"))
    assert rows() == few
    assert number < len(looked_at)


@pytest.mark.parametrize("picked", [(0, "one row", 0, 3), (1, "ZeRO-3, optimizer on host", 0, 2), (2, "DDP", 2, 1)])
def test_words_of_the_command_say_what_was_chosen(words, picked):
    run = configured(words)
    weights, strategy, optimizer, how = picked
    strategies = list(choices.strategies(run, [1, 2]))
    named = [part for part in strategies if part.labels["strategy"] == strategy] or strategies
    parts = [
        choices.weights(run, "any")[weights],
        named[-1],
        list(choices.optimizers(run))[optimizer],
        choices.activations(run)[how],
    ]
    read = configured([*words, *(word for part in parts for word in part.words)])
    for part in parts:
        run = part.apply(run)
    assert (read.policy, read.sharding, read.precision) == (run.policy, run.sharding, run.precision)
    assert read.optimization.settings == run.optimization.settings
    assert chosen_mode(read) == chosen_mode(run)


def test_what_fit_refuses_is_no_way_to_run(words):
    from transformers import AutoConfig

    run = configured([*words, "--policy.dtype", "bfloat16"])
    config = AutoConfig.for_model(**tiny_config("Llama").to_dict())
    whole, lora, in_4_bits = choices.weights(run, "any")
    by_name = {part.labels["strategy"]: part for part in choices.strategies(run, [1])}
    quantized = list(choices.optimizers(run))[-1]

    def problem(*parts):
        changed = run
        for part in parts:
            changed = part.apply(changed)
        return refusal(changed, config)

    assert "round to nothing" in problem(whole, by_name["DDP"])
    assert "leaves parameters whole" in problem(in_4_bits, by_name["ZeRO-3"])
    assert "one device or DDP" in problem(lora, by_name["ZeRO-2"], quantized)
    assert problem(whole, by_name["ZeRO-3"]) is problem(in_4_bits, by_name["DDP"], quantized) is None


@pytest.mark.parametrize("devices", [1, 8])
def test_the_table_says_of_every_number_what_it_counts(devices, capsys):
    """On one device it read "ZeRO-3, optimizer on host and weights, 1, FusedAdamW"."""
    labels = {"strategy": "ZeRO-3", "devices to a row": str(devices), "optimizer": "FusedAdamW"}
    run = SimpleNamespace(sharding=SimpleNamespace(world_size=devices))
    best = SimpleNamespace(labels=labels, run=run, tokens=1024, memory=SimpleNamespace(peak=1), host_bytes=0)
    table = {name: {label: best} for name, label in labels.items()}
    Console(width=200).print(_longest_table(SimpleNamespace(best=best, table=table)))
    shown = [line for line in capsys.readouterr().out.splitlines() if "1,024" in line]
    assert len(shown) == (2 if devices == 1 else 3)
    assert ("8 devices to a row, FusedAdamW" in shown[0]) == (devices == 8)
    assert not any(re.search(r"[,│] 1[, ]", line.partition("1,024")[2]) for line in shown)


def test_what_lies_on_the_host_is_named_before_it(words):
    names = [part.labels["strategy"] for part in choices.strategies(configured(words), [1])]
    assert {"ZeRO-2, optimizer on host", "ZeRO-3, optimizer and weights on host"} <= set(names)


def test_options_of_a_plan_are_left_out_of_the_command_of_fit():
    assert with_goal(["--longest", "--trainer.devices", "8"]) == ["--longest=any", "--trainer.devices", "8"]
    assert with_goal(["--a", "b", "--longest"]) == ["--a", "b", "--longest=any"]
    assert with_goal(["--longest", "lora"]) == ["--longest", "lora"]
    typed = [
        "--config",
        "a.yaml",
        "--mfu",
        "0.5",
        "--longest=any",
        "--shape=x",
        "--trainer.devices",
        "8",
        "--json",
        "f",
    ]
    assert _without_options(typed) == ["--config", "a.yaml", "--trainer.devices", "8"]


@pytest.mark.parametrize(
    ("data", "more", "message"),
    [
        (["max_tokens", "sources"], [], r"expected one source of data for --longest, got a mixture"),
        (["path"], [], r"expected a data module with `max_tokens`"),
        (
            ["max_tokens"],
            ["--trainer.strategy.config", "{zero_optimization: {stage: 2}}"],
            r"expected no DeepSpeed",
        ),
    ],
)
def test_what_has_no_longest_row(words, data, more, message):
    strategy = ["--trainer.strategy", "lit_longpo.strategies.AnyDeviceDeepSpeedStrategy"] if more else []
    with pytest.raises(InputError, match=message):
        find_longest(configured([*words, *strategy, *more]), words, configured, data)
