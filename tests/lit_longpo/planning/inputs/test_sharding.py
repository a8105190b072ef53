"""What a plan reads from the trainer's section."""

import json

import pytest

from lit_longpo.errors import InputError
from lit_longpo.planning.inputs.sharding import Sharding, read_sharding

OWN = {
    "zero_optimization": {
        "stage": 3,
        "offload_optimizer": {"device": "cpu"},
        "offload_param": {"device": "none"},
        "reduce_bucket_size": 5000,
    }
}


def deepspeed(**options):
    return {"strategy": {"class_path": "lit_longpo.strategies.AnyDeviceDeepSpeedStrategy", "init_args": options}}


@pytest.mark.parametrize(
    ("trainer", "expected"),
    [
        ({}, Sharding("ddp", 4)),
        ({"strategy": "ddp", "num_nodes": 2}, Sharding("ddp", 8)),
        ({"strategy": "deepspeed_stage_3_offload"}, Sharding("zero", 4, stage=3, offload_optimizer=True)),
        (deepspeed(), Sharding("zero", 4, stage=2)),
        (deepspeed(stage=1, sequence_parallel=2), Sharding("zero", 4, stage=1, sequence_parallel=2)),
        (deepspeed(config=OWN), Sharding("zero", 4, stage=3, offload_optimizer=True, bucket=5000)),
        (deepspeed(config={"zero_optimization": {"stage": 2, "reduce_bucket_size": "auto"}}), Sharding("zero", 4, 2)),
        ({"strategy": {"class_path": "ModelParallelStrategy", "init_args": {}}}, Sharding("fsdp2", 4)),
    ],
)
def test_strategies_become_shardings(trainer, expected):
    assert read_sharding(trainer, 4, None) == expected


def test_a_deepspeed_configuration_may_lie_in_a_file(tmp_path):
    path = tmp_path / "ds.json"
    path.write_text(json.dumps(OWN))
    assert read_sharding(deepspeed(config=str(path)), 4, None) == read_sharding(deepspeed(config=OWN), 4, None)
    with pytest.raises(ValueError, match=r"expected a DeepSpeed configuration .*none.json, which is not there"):
        read_sharding(deepspeed(config=str(tmp_path / "none.json")), 4, None)


def test_a_deepspeed_configuration_that_brings_an_optimizer_is_refused_as_fit_refuses_it():
    own = OWN | {"optimizer": {"type": "Adam", "params": {"lr": "auto"}}}
    with pytest.raises(InputError, match=r"leaves optimizer, schedule, .* got `optimizer` in it"):
        read_sharding(deepspeed(config=own), 4, None)
