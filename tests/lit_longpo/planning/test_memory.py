"""The table of states, strategy by strategy."""

from dataclasses import fields

import pytest
import torch
from support.tiny_models import tiny_config

from lit_longpo.optimization import FusedAdamW
from lit_longpo.planning.inputs.sharding import Sharding
from lit_longpo.planning.memory import memory, states
from lit_longpo.planning.sizes import count
from lit_longpo.planning.tracing.activations import Activations
from lit_longpo.planning.tracing.model import ModelPlan
from lit_longpo.planning.tracing.steps import Trace

SIZES = count(ModelPlan(tiny_config("Llama"), torch.bfloat16))
NUMBER = SIZES.total
EMPTY = Trace(**dict.fromkeys((field.name for field in fields(Trace)), 0))
NOTHING = Activations(EMPTY, EMPTY, layers=1)


@pytest.mark.parametrize(
    ("sharding", "parameters", "gradients", "optimizer"),
    [
        (Sharding("single"), 2, 2, 4),
        (Sharding("ddp", 4), 2, 2, 4),
        (Sharding("fsdp2", 4), 2 / 4, 2 / 4, 4 / 4),
        (Sharding("zero", 4, stage=1), 2, 2, 12 / 4),
        (Sharding("zero", 4, stage=2), 2, 2 / 4, 12 / 4),
        (Sharding("zero", 4, stage=3), 2 / 4, 2 / 4, 12 / 4),
        (Sharding("zero", 4, stage=3, offload_optimizer=True), 2 / 4, 2 / 4, 0),
        (Sharding("zero", 4, stage=3, offload_parameters=True), 0, 2 / 4, 12 / 4),
    ],
)
def test_bytes_per_parameter_in_bf16(sharding, parameters, gradients, optimizer):
    found = states(SIZES, sharding, FusedAdamW)
    assert found.parameters == pytest.approx(parameters * NUMBER, rel=1e-3)
    assert found.gradients == pytest.approx(gradients * NUMBER, rel=1e-3)
    assert found.optimizer == pytest.approx(optimizer * NUMBER, rel=1e-3)
    assert (found.host > 0) == (sharding.offload_optimizer or sharding.offload_parameters)


def test_zero_3_holds_all_gradients_in_one_buffer():
    """DeepSpeed makes it once; elsewhere a step's gradients are gone before the next forward."""
    held = {}
    for stage in (2, 3):
        sharding = Sharding("zero", 4, stage=stage)
        found = memory(states(SIZES, sharding, FusedAdamW), NOTHING, sharding, mode="none", accumulates=False)
        held[stage] = found.moments["forward"] - found.states.lasting
    assert held == {2: 0, 3: pytest.approx(2 / 4 * NUMBER, rel=1e-3)}


def test_ddp_copies_gradients_into_buckets():
    assert states(SIZES, Sharding("ddp", 2), FusedAdamW).buffers == SIZES.trained_bytes
