"""What a device holds whatever the row: parameters, gradients, optimizer states, buffers of the strategy.

With P bytes of parameters, G bytes of gradients (those of the trained parameters), n trained parameters,
k optimizer bytes for each and N devices:

| strategy | parameters | gradients | optimizer | buffers |
| --- | --- | --- | --- | --- |
| one device | P | G | k n | |
| DDP | P | G | k n | G: the buckets that are reduced are copies |
| FSDP2 | P / N | G / N | k n / N | two gathered layers, all outside the layers, a layer's whole gradient |
| ZeRO-1 | P | G | (4 + k) n / N | two buckets |
| ZeRO-2 | P | G / N | (4 + k) n / N | two buckets |
| ZeRO-3 | P / N | G / N | (4 + k) n / N | a bucket, and gathered parameters: at most `max_live_parameters` |

The 4 are DeepSpeed's fp32 master weights, which it also keeps beside fp32 weights; k is that of fp32 states
there (8 for AdamW). Its step turns a rank's share of the gradients into fp32 once more: 4 n / N, borrowed.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from lit_longpo.planning.sizes import OptimizerFactory, Sizes, optimizer_bytes

_MAX_LIVE_PARAMETERS = 1_000_000_000  # DeepSpeed's default, which Lightning keeps


@dataclass(frozen=True)
class Sharding:
    """How a run is spread over devices.

    Args:
        kind: "single", "ddp", "fsdp2" or "zero".
        world_size: devices of all nodes.
        stage: of ZeRO.
        offload_optimizer: optimizer states in host memory.
        offload_parameters: parameters in host memory (ZeRO-3).
        sequence_parallel: devices that share a row.
        bucket: elements that ZeRO reduces at a time.
    """

    kind: Literal["single", "ddp", "fsdp2", "zero"] = "single"
    world_size: int = 1
    stage: int = 0
    offload_optimizer: bool = False
    offload_parameters: bool = False
    sequence_parallel: int = 1
    bucket: int = 200_000_000

    @property
    def data_parallel(self) -> int:
        """Rows that are worked on at the same time."""
        return self.world_size // self.sequence_parallel

    @property
    def splits_gradients(self) -> bool:
        """Whether a device keeps its share of the gradients only."""
        return self.kind == "fsdp2" or self.stage >= 2

    @property
    def splits_parameters(self) -> bool:
        """Whether a device keeps its share of the parameters only."""
        return self.kind == "fsdp2" or self.stage == 3


@dataclass(frozen=True)
class States:
    """Bytes on one device, and in host memory for it.

    Args:
        parameters: weights.
        gradients: of all trained parameters, once they are all there.
        optimizer: states and master weights.
        buffers: of the strategy.
        borrowed_in_step: what the optimizer's step adds for a while.
        host: what is kept in host memory instead.
    """

    parameters: int
    gradients: int
    optimizer: int
    buffers: int
    borrowed_in_step: int
    host: int = 0

    @property
    def lasting(self) -> int:
        """What is there from the first step to the last."""
        return self.parameters + self.optimizer + self.buffers


def states(sizes: Sizes, sharding: Sharding, optimizer: OptimizerFactory) -> States:
    """See the table at the top of this module."""
    return _zero(sizes, sharding, optimizer) if sharding.kind == "zero" else _plain(sizes, sharding, optimizer)


def _plain(sizes: Sizes, sharding: Sharding, optimizer: OptimizerFactory) -> States:
    share = sharding.world_size if sharding.kind == "fsdp2" else 1
    kept, borrowed = 0.0, 0.0
    for dtype, number in sizes.trained.items():
        taken = optimizer_bytes(optimizer, dtype)
        kept, borrowed = kept + taken.states * number, borrowed + taken.borrowed * number
    gathered = 2 * sizes.largest_layer_bytes + sizes.outside_bytes + sizes.largest_layer_bytes
    buffers = {"ddp": sizes.trained_bytes, "fsdp2": gathered}.get(sharding.kind, 0)
    return States(
        parameters=sizes.total_bytes // share,
        gradients=sizes.trained_bytes // share,
        optimizer=round(kept / share),
        buffers=buffers,
        borrowed_in_step=round(borrowed / share),
    )


def _zero(sizes: Sizes, sharding: Sharding, optimizer: OptimizerFactory) -> States:
    ranks = sharding.world_size
    taken = optimizer_bytes(optimizer, torch.float32)
    dtype_bytes = -(-sizes.total_bytes // sizes.total)
    parameters = sizes.total_bytes // (ranks if sharding.splits_parameters else 1)
    optimizer_states = round((4 + taken.states) * sizes.num_trained / ranks)
    buckets = (1 if sharding.stage == 3 else 2) * sharding.bucket * dtype_bytes
    gathered = min(sizes.total_bytes, _MAX_LIVE_PARAMETERS * dtype_bytes) if sharding.stage == 3 else 0
    in_step = round((4 + taken.borrowed) * sizes.num_trained / ranks)
    offloaded = optimizer_states + in_step if sharding.offload_optimizer else 0
    return States(
        parameters=0 if sharding.offload_parameters else parameters,
        gradients=sizes.trained_bytes // (ranks if sharding.splits_gradients else 1),
        optimizer=0 if sharding.offload_optimizer else optimizer_states,
        buffers=buckets + gathered,
        borrowed_in_step=0 if sharding.offload_optimizer else in_step,
        host=offloaded + (parameters if sharding.offload_parameters else 0),
    )
