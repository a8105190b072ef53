"""Of a layer with a window few blocks are run, and a trace says what all of them take."""

from contextlib import nullcontext

import pytest
import torch
from support.tiny_models import tiny_config

from lit_longpo.engine.backends import sdpa
from lit_longpo.live_bytes import LiveBytes
from lit_longpo.objectives import DPO
from lit_longpo.planning.inputs.row import RowPlan
from lit_longpo.planning.tracing import steps
from lit_longpo.planning.tracing.model import ModelPlan
from lit_longpo.planning.tracing.steps import trace_forward, trace_step

ROW = RowPlan(DPO().views, 1, 2600, 8, 12)  # eleven blocks of 256


def windowed(name):
    return ModelPlan(tiny_config(name, sliding_window=8), torch.float32)


@pytest.mark.parametrize("checkpointing", [False, True, "keep_attention"])
@pytest.mark.parametrize("name", ["Mistral", "GptOss"])  # GptOss: with sinks
def test_a_trace_says_what_all_blocks_take(name, checkpointing, monkeypatch):
    found = trace_step(windowed(name), ROW, 1, checkpointing=checkpointing)
    monkeypatch.setattr(steps, "planned_windows", lambda memory: nullcontext())
    assert found == trace_step(windowed(name), ROW, 1, checkpointing=checkpointing)


def test_so_does_one_of_the_reference(monkeypatch):
    found = trace_forward(windowed("Mistral"), ROW, 1)
    monkeypatch.setattr(steps, "planned_windows", lambda memory: nullcontext())
    assert found == trace_forward(windowed("Mistral"), ROW, 1) > 0


def test_a_longer_row_runs_no_more_blocks(monkeypatch):
    run, every = [], sdpa.outputs_of
    monkeypatch.setattr(sdpa, "outputs_of", lambda blocks, attend: run.extend(blocks) or every(blocks, attend))
    trace_forward(windowed("Mistral"), ROW, 1)
    assert 0 < len(run) < 11


def test_what_is_repeated_counts_so_often_until_it_dies():
    with LiveBytes() as memory:
        with memory.repeated(3):
            kept = torch.zeros(256) + torch.ones(256)
            assert memory.live == 3 * 1024
        assert (memory.live, memory.peak) == (3 * 1024, 3 * 1024)  # what was added up raised no peak
        del kept
        assert memory.live == 0
