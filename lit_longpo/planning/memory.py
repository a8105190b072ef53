"""Peak memory of a device: the largest of the moments of a step.

What lasts (parameters, optimizer, buffers, a frozen reference copy) is always there. On top of it:

| moment | gradients | activations |
| --- | --- | --- |
| forward, decoder and head | with accumulation the earlier rows'; ZeRO-3's buffer of all | rising to all that is kept |
| backward of the head | the same | all that is kept, the tiles, the head's gradient |
| backward of the last layer | and the head's | all that is kept, and what one layer borrows |
| backward of the first layer | nearly all | of one layer only |
| backward of the embeddings | all | the embeddings' dense gradient |
| optimizer step | all | none; what the step borrows |

Checkpointing keeps each layer's input only (or also what its attention returned), and one layer's activations
come back during its backward; offloading moves those inputs to the host. That is all that distinguishes the
modes: the same moments hold.

What a device holds whatever the row: parameters, gradients, optimizer states, buffers of the strategy.

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

Where weights are held in 4 bits, the buffers hold the largest of them whole: they are made so one by one. Of states in
8 bits (one device or DDP), k is 2.03, but 8 for embeddings; paged ones lie in host memory, those of a tensor at a time
on the device.

The 4 are DeepSpeed's fp32 master weights, which it also keeps beside fp32 weights; k is that of fp32 states
there (8 for AdamW). Its step turns a rank's share of the gradients into fp32 once more: 4 n / N, borrowed.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from lit_longpo.optimization.state_bytes import optimizer_bytes
from lit_longpo.optimization.trials import OptimizerFactory
from lit_longpo.planning.inputs.sharding import Sharding
from lit_longpo.planning.optimizer_states import optimizer_states
from lit_longpo.planning.sizes import ModelSizes
from lit_longpo.planning.tracing.activations import Activations
from lit_longpo.policy.checkpointing import Checkpointing

ActivationMode = Literal["none", "recompute", "keep_attention", "offload"]
CONFIGURED: dict[ActivationMode, Checkpointing] = {  # `policy.gradient_checkpointing`
    "none": False,
    "recompute": True,
    "keep_attention": "keep_attention",
    "offload": "offload",
}
TRACED: dict[ActivationMode, Checkpointing] = {**CONFIGURED, "offload": True}
TITLES: dict[ActivationMode, str] = {
    "none": "keep all",
    "recompute": "recompute",
    "keep_attention": "keep attention",
    "offload": "offload",
}
STEP, LONGEST_PROMPT = 1024, 2**24  # tokens of a prompt: how finely, and how far, the longest is looked for
_MAX_LIVE_PARAMETERS = 1_000_000_000  # DeepSpeed's default, which Lightning keeps


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


def states(sizes: ModelSizes, sharding: Sharding, optimizer: OptimizerFactory, *, pages: bool = True) -> States:
    """See the table at the top of this module.

    `pages` says whether the device has memory of its own that states can be paged out of.
    """
    if sharding.kind == "zero":
        return _zero(sizes, sharding, optimizer)
    return _plain(sizes, sharding, optimizer, pages)


def _plain(sizes: ModelSizes, sharding: Sharding, optimizer: OptimizerFactory, pages: bool) -> States:
    slices = sharding.world_size if sharding.kind == "fsdp2" else 1
    taken = optimizer_states(sizes, optimizer)
    paged = taken.paged if pages else 0.0
    gathered = 2 * sizes.largest_layer_bytes + sizes.outside_bytes + sizes.largest_layer_bytes
    buffers = {"ddp": sizes.trained_bytes, "fsdp2": gathered}.get(sharding.kind, 0)
    return States(
        parameters=sizes.total_bytes // slices,
        gradients=sizes.trained_bytes // slices,
        optimizer=round((taken.states - paged) / slices),
        buffers=buffers + sizes.dequantized_bytes,
        borrowed_in_step=round(taken.borrowed / slices),
        host=round(paged / slices),
    )


def _zero(sizes: ModelSizes, sharding: Sharding, optimizer: OptimizerFactory) -> States:
    ranks = sharding.world_size
    taken = optimizer_bytes(optimizer, torch.float32)
    dtype_bytes = max(-(-sizes.total_bytes // sizes.total), *(dtype.itemsize for dtype in sizes.trained))
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
        buffers=buckets + gathered + sizes.dequantized_bytes,
        borrowed_in_step=0 if sharding.offload_optimizer else in_step,
        host=offloaded + (parameters if sharding.offload_parameters else 0),
    )


@dataclass(frozen=True)
class Memory:
    """Bytes on one device.

    Args:
        states: what does not depend on the row.
        reference: a frozen model beside the policy.
        moments: peak of each moment of a step, everything included.
        kept: activations that wait for backward.
        host: bytes in host memory.
    """

    states: States
    reference: int
    moments: dict[str, int]
    kept: int
    host: int

    @property
    def peak(self) -> int:
        """Bytes at the moment that takes most."""
        return max(self.moments.values())

    @property
    def when(self) -> str:
        """The name of that moment."""
        return max(self.moments, key=lambda name: self.moments[name])


@dataclass(frozen=True)
class ReferenceBytes:
    """What the reference takes.

    Args:
        copy: a frozen model.
        once: a model that is there only while it scores, before the first step.
        borrowed: activations of its pass.
        online: whether the pass is made beside the policy's kept activations, or before the first step.
    """

    copy: int = 0
    once: int = 0
    borrowed: int = 0
    online: bool = False


def memory(
    states: States,
    activations: Activations,
    sharding: Sharding,
    *,
    mode: ActivationMode,
    accumulates: bool,
    untied_head_bytes: int = 0,
    reference: ReferenceBytes = ReferenceBytes(),
) -> Memory:
    """Put the moments together; `activations` are traced with the mode's checkpointing."""
    on_device = activations.offloaded() if mode == "offload" else activations
    whole, first = on_device.whole, activations.one_layer
    lasting = states.lasting + reference.copy
    held = sharding.split == "ZeRO-3"  # one buffer, from DeepSpeed's start to its end
    before = states.gradients if accumulates or held else 0
    head = untied_head_bytes // (sharding.world_size if sharding.splits_gradients else 1)
    moments = {
        "forward": lasting + before + whole.decoder_forward,
        "head, forward": lasting + before + whole.head_forward,
        "head, backward": lasting + before + whole.head_backward,
        "last layer, backward": lasting + max(before, head) + whole.layers_backward,
        "first layer, backward": lasting + states.gradients + first.layers_backward,
        "embeddings, backward": lasting + states.gradients + first.embedding_backward,
        "optimizer step": lasting + states.gradients + states.borrowed_in_step,
    }
    if reference.borrowed:
        kept = before + whole.kept if reference.online else 0
        moments["reference"] = lasting + kept + reference.once + reference.borrowed
    host = states.host + (activations.kept_by_layers if mode == "offload" else 0)
    return Memory(states, reference.copy, moments, whole.kept, host)


def longest(fits: Callable[[int], bool]) -> int:
    """The largest multiple of `STEP` tokens that fits; 0 if not even one step does."""
    steps = range(1, LONGEST_PROMPT // STEP + 1)
    return STEP * bisect_left(steps, True, key=lambda number: not fits(number * STEP))
