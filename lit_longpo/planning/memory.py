"""Peak memory of a device: the largest of the moments of a step.

What lasts (parameters, optimizer, buffers, a frozen reference copy) is always there. On top of it:

| moment | gradients | activations |
| --- | --- | --- |
| forward, decoder and head | of the step before: freed just before backward | rising to all that is kept |
| backward of the head | with accumulation the earlier rows' | all that is kept, the tiles, the head's gradient |
| backward of the last layer | and the head's | all that is kept, and what one layer borrows |
| backward of the first layer | nearly all | of one layer only |
| backward of the embeddings | all | the embeddings' dense gradient |
| optimizer step | all | none; what the step borrows |

Checkpointing keeps each layer's input only (or also what its attention returned), and one layer's activations
come back during its backward; offloading moves those inputs to the host. That is all that distinguishes the
modes: the same moments hold.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from lit_longpo.planning.activations import Activations
from lit_longpo.planning.states import Sharding, States
from lit_longpo.policy.checkpointing import Checkpointing

Mode = Literal["none", "recompute", "keep_attention", "offload"]
CHECKPOINTING: dict[Mode, Checkpointing] = {  # of the traces
    "none": False,
    "recompute": True,
    "keep_attention": "keep_attention",
    "offload": True,
}


@dataclass(frozen=True)
class Memory:
    """Bytes on one device.

    Args:
        states: what does not depend on the row.
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
        """The largest moment."""
        return max(self.moments.values())

    @property
    def when(self) -> str:
        """Its name."""
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
    mode: Mode,
    accumulates: bool,
    untied_head_bytes: int = 0,
    reference: ReferenceBytes = ReferenceBytes(),
) -> Memory:
    """Put the moments together.

    Args:
        states: of the strategy.
        activations: traced with the mode's checkpointing.
        sharding: the strategy.
        mode: what is done with activations.
        accumulates: whether several rows make one step.
        untied_head_bytes: the head's gradient, if it has one of its own.
        reference: what the reference takes.
    """
    on_device = activations.offloaded() if mode == "offload" else activations
    whole, first = on_device.whole, activations.one_layer
    lasting = states.lasting + reference.copy
    before = states.gradients if accumulates else 0
    head = untied_head_bytes // (sharding.world_size if sharding.splits_gradients else 1)
    moments = {
        "forward": lasting + states.gradients + whole.decoder_forward,
        "head, forward": lasting + states.gradients + whole.head_forward,
        "head, backward": lasting + before + whole.head_backward,
        "last layer, backward": lasting + max(before, head) + whole.layers_backward,
        "first layer, backward": lasting + states.gradients + first.layers_backward,
        "embeddings, backward": lasting + states.gradients + first.embedding_backward,
        "optimizer step": lasting + states.gradients + states.borrowed_in_step,
    }
    if reference.borrowed:
        kept = states.gradients + whole.kept if reference.online else 0
        moments["reference"] = lasting + kept + reference.once + reference.borrowed
    host = states.host + (activations.kept_by_layers if mode == "offload" else 0)
    return Memory(states, reference.copy, moments, whole.kept, host)


def longest(fits: Callable[[int], bool], *, step: int = 1024, limit: int = 2**24) -> int:
    """The largest multiple of `step` that fits, by bisection; 0 if not even one does."""
    low, high = 0, limit // step
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle * step) else (low, middle - 1)
    return low * step
