"""The table of states, strategy by strategy."""

import pytest
import torch
from support.tiny_models import tiny_config

from lit_longpo.optimization import FusedAdamW
from lit_longpo.planning.memory import states
from lit_longpo.planning.model import ModelPlan
from lit_longpo.planning.sharding import Sharding
from lit_longpo.planning.sizes import count

SIZES = count(ModelPlan(tiny_config("Llama"), torch.bfloat16))
NUMBER = SIZES.total


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


def test_ddp_copies_gradients_into_buckets():
    assert states(SIZES, Sharding("ddp", 2), FusedAdamW).buffers == SIZES.trained_bytes
