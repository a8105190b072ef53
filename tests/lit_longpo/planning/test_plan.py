"""What `make_plan` adds up: copied key/value heads, and the pass of an online reference."""

import json
from dataclasses import replace

import pytest
import torch
from support.command_line import CONFIGS
from support.tiny_models import tiny_config

from lit_longpo.objectives import DPO as DPOObjective
from lit_longpo.planning import plan
from lit_longpo.planning.command import plan_for
from lit_longpo.planning.inputs.row import RowPlan
from lit_longpo.planning.planner import with_copied_heads
from lit_longpo.planning.tracing.activations import Tracer
from lit_longpo.planning.tracing.model import ModelPlan

DPO = ("--config", str(CONFIGS / "dpo.yaml"), "--row_tokens", "512", "--response_tokens", "16")


@pytest.fixture(autouse=True)
def _cheap(monkeypatch):
    monkeypatch.setattr(plan.Planner, "longest_context", lambda *_: 0)  # traces many more rows


def test_every_rank_needs_a_key_value_head():
    config = tiny_config("Llama")  # four heads, two for keys and values
    assert with_copied_heads(config, 2) is config
    assert with_copied_heads(config, 4).num_key_value_heads == 4
    assert config.num_key_value_heads == 2
    assert with_copied_heads(config, 3) is config  # refused elsewhere


@pytest.fixture
def shared(tmp_path):
    """A plan with so many ranks to a row, of a model with two key/value heads."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(tiny_config("Llama", num_attention_heads=8).to_dict()))

    def planned(ranks):
        return plan_for([*DPO, "--shape", str(path), "--trainer.devices", "8", "--sequence_parallel", str(ranks)])

    return planned


@pytest.mark.slow
def test_copied_heads_take_memory(shared):
    two, four = shared(2), shared(4)
    assert two.kv_copies > 0
    assert four.kv_copies == pytest.approx(two.kv_copies, rel=0.05)  # half the tokens, twice the heads
    assert four.memory["none"].kept > 0.5 * two.memory["none"].kept


def test_an_online_reference_is_one_more_forward_pass():
    cached, online = (
        plan_for([*DPO, "--reference.mode", mode, "--device_tflops", "1"]) for mode in ("cached", "online")
    )
    assert online.flops.model == pytest.approx(cached.flops.model + cached.flops.forward)
    assert online.flops.hardware == pytest.approx(cached.flops.hardware + cached.flops.forward)
    assert online.seconds_per_step == pytest.approx(cached.seconds_per_step * online.flops.model / cached.flops.model)
    made = cached.reference_pass
    assert online.reference_pass is None
    assert (made.row_tokens, made.examples_per_row) == (2 * 512, 2)  # of 2 layers, which keep two rows' activations
    assert made.flops_per_row == pytest.approx(2 * cached.flops.forward)
    assert cached.reference_seconds is None
    known = replace(cached, reference_pass=replace(made, num_examples=100))
    assert known.reference_seconds == pytest.approx(100 * cached.flops.forward / 0.4e12)
    passed, trained = (plan.memory["none"].moments for plan in (cached, online))
    assert passed["reference"] < max(value for name, value in passed.items() if name != "reference")
    assert trained["reference"] > 0


def test_a_long_pass_is_on_the_line_through_shorter_ones(monkeypatch):
    """What 40 examples borrow, from at most 16."""
    tracer, traced = Tracer(ModelPlan(tiny_config("Llama"), torch.float32)), []
    monkeypatch.setattr(Tracer, "_pass", lambda self, model, row: traced.append(row.num_examples) or 7 * row.num_tokens)
    row = RowPlan(DPOObjective().views, 40, 100, 0, 16)
    assert tracer.reference_pass(row) == 7 * row.num_tokens
    assert tracer.reference_pass(replace(row, num_examples=3)) == 7 * 3 * 132
    assert traced == [8, 16, 3]


@pytest.mark.slow
def test_tiles_of_layers_are_in_the_plan():
    recomputed = [*DPO, "--policy.gradient_checkpointing", "true", "--policy.tile_tokens"]
    whole, tiled = (plan_for([*recomputed, size]) for size in ("null", "64"))
    assert (whole.layer_tile, tiled.layer_tile) == (None, 64)
    moment = "last layer, backward"
    assert tiled.memory["recompute"].moments[moment] < whole.memory["recompute"].moments[moment]


@pytest.mark.slow
def test_another_reference_counts_by_its_own_size():
    other = ("--policy.source", "Qwen/Qwen2.5-0.5B-Instruct", "--reference.policy.source", "embedded")
    made, cached = (plan_for([*DPO, "--reference.mode", mode, *other]) for mode in ("online", "cached"))
    assert made.flops.model == pytest.approx(3 * made.flops.forward, rel=0.01)
    weights = 4 * 353_152
    assert made.memory["none"].reference == weights
    assert cached.memory["none"].reference == 0
    as_long = (
        "--reference.max_tokens",
        str(made.row.num_tokens),
    )  # auto has longer rows beside the policy's own weights
    alone = plan_for([*DPO, *other[:2], *as_long]).memory["none"].moments["reference"]
    assert cached.memory["none"].moments["reference"] == alone + weights
