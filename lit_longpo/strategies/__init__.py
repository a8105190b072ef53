"""Distributed strategies beyond Lightning's own: DeepSpeed on any device, FSDP2 sharding, sequence parallelism."""

from lit_longpo.engine.sequential.sequences import is_sharded
from lit_longpo.strategies.accumulation import ends_step, multiply_gradients, rows_of_a_step
from lit_longpo.strategies.choice import check_reached, check_steps, check_strategy
from lit_longpo.strategies.deepspeed import (
    AnyDeviceDeepSpeedStrategy,
    is_deepspeed,
    keep_frozen,
    split_while_loading,
    whole_loading,
)
from lit_longpo.strategies.devices import check_accelerator, check_devices, check_torch_device, num_devices
from lit_longpo.strategies.launching import check_job, check_launch, check_processes, launch_problem, own_launcher
from lit_longpo.strategies.sharding import (
    any_rank,
    data_parallel_mesh,
    full_value,
    gathered_state_dict,
    mesh_problem,
    shard,
    split_by,
    splits_parameters,
)
from lit_longpo.strategies.shared_rows import SequenceParallelDDPStrategy

__all__ = [
    "AnyDeviceDeepSpeedStrategy",
    "SequenceParallelDDPStrategy",
    "any_rank",
    "check_accelerator",
    "check_devices",
    "check_job",
    "check_launch",
    "check_processes",
    "check_reached",
    "check_steps",
    "check_strategy",
    "check_torch_device",
    "data_parallel_mesh",
    "ends_step",
    "full_value",
    "gathered_state_dict",
    "is_deepspeed",
    "is_sharded",
    "keep_frozen",
    "launch_problem",
    "mesh_problem",
    "multiply_gradients",
    "num_devices",
    "own_launcher",
    "rows_of_a_step",
    "shard",
    "split_by",
    "split_while_loading",
    "splits_parameters",
    "whole_loading",
]
