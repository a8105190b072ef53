"""The rows that go through a model, and what a data module hands to an objective."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lit_longpo.batch.segments import SegmentTable, Sharing
from lit_longpo.batch.views import Slot


def tensor_on(device: torch.device, values: Sequence[float], dtype: torch.dtype) -> Tensor:
    """Numbers of the host on a device, without waiting: to a GPU they go from pinned memory. Shape: (values,)."""
    tensor = torch.tensor(values, dtype=dtype)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


@dataclass(frozen=True)
class PackedBatch:
    """All groups of a batch in one row.

    Args:
        input_ids: Shape: (1, T).
        position_ids: Shape: (1, T).
        table: which tokens attend to which.
        score_index: row position whose hidden state predicts each scored token. Shape: (N,).
        score_targets: the scored tokens. Shape: (N,).
        score_owners: slot that owns each scored token. Shape: (N,).
        slots: what the S sums mean.
        fingerprints: content hash of each slot (prompt, positions, response, mask).
        examples: identifiers of the B examples, in order of first appearance.
        leaps: whether a prompt's positions are other than 0, 1, 2 ...; known on the host.
        scored_tails: how many of its last queries hold every one that is scored, of each segment; known on the host.
        sharing: whose the segments are, if groups share tokens of their prompts; `None` if none do.
    """

    input_ids: Tensor
    position_ids: Tensor
    table: SegmentTable
    score_index: Tensor
    score_targets: Tensor
    score_owners: Tensor
    slots: tuple[Slot, ...]
    fingerprints: tuple[str, ...]
    examples: tuple[str, ...]
    leaps: bool = False
    scored_tails: tuple[int, ...] = ()
    sharing: Sharing | None = None

    @property
    def num_tokens(self) -> int:
        """T, the length of the row."""
        return self.input_ids.shape[1]

    @property
    def num_held_tokens(self) -> int:
        """Tokens of the row's groups, each with a prompt of its own: T if they share none."""
        return self.num_tokens if self.sharing is None else self.sharing.num_tokens

    @property
    def num_scored(self) -> Tensor:
        """Scored tokens of each slot. (`bincount` would wait for a GPU.) Shape: (S,)."""
        ones = torch.ones(self.score_owners.shape, dtype=torch.float32, device=self.score_owners.device)
        return ones.new_zeros(len(self.slots)).index_add(0, self.score_owners, ones)

    def _apply(self, move: Callable[[Tensor], Tensor]) -> "PackedBatch":
        return replace(
            self,
            input_ids=move(self.input_ids),
            position_ids=move(self.position_ids),
            score_index=move(self.score_index),
            score_targets=move(self.score_targets),
            score_owners=move(self.score_owners),
        )

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "PackedBatch":
        """Copy with every tensor on `device`; Lightning calls this."""
        return self._apply(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "PackedBatch":
        """Copy with every tensor in pinned host memory; the data loader calls this."""
        return self._apply(Tensor.pin_memory)


class PreferenceBatch:
    """The batch that a data module hands to an objective: one row for the policy, and one for the reference.

    Not a dataclass: Lightning's half-precision and DeepSpeed plugins would take one apart to convert its
    floating-point tensors, which stay as exact as they are, and refuse frozen ones.

    Args:
        policy: the row that the policy scores with gradients.
        reference: the row whose reference log-probabilities the objective needs; the very same
            object as `policy` when both ask for the same views; `None` for reference-free ones.
        weights: what each example's loss is multiplied by; `None` where all are 1. Shape: (B,).
        margins: by how much each example's chosen reward should exceed the rejected one's; `None` where all are 0.
            Shape: (B,).
        sources: which examples are of each source, where there are several; validation says each one's means.
            Shape of each: (B,).
    """

    def __init__(
        self,
        policy: PackedBatch,
        reference: PackedBatch | None = None,
        weights: Tensor | None = None,
        margins: Tensor | None = None,
        sources: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.policy, self.reference = policy, reference
        self.weights, self.margins, self.sources = weights, margins, sources

    @property
    def same_row(self) -> bool:
        """Whether policy and reference score one row, which is then moved and packed once."""
        return self.reference is self.policy

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "PreferenceBatch":
        """Copy with every tensor on `device`; Lightning calls this."""
        return self._copy(lambda row: row.to(device, non_blocking), lambda t: t.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "PreferenceBatch":
        """Copy with every tensor in pinned host memory; the data loader calls this."""
        return self._copy(PackedBatch.pin_memory, Tensor.pin_memory)

    def _copy(
        self, move: Callable[[PackedBatch], PackedBatch], move_tensor: Callable[[Tensor], Tensor]
    ) -> "PreferenceBatch":
        policy, reference = move(self.policy), self.reference
        if self.same_row:
            reference = policy
        elif reference is not None:
            reference = move(reference)
        weights, margins = (None if t is None else move_tensor(t) for t in (self.weights, self.margins))
        sources = None if self.sources is None else {name: move_tensor(mask) for name, mask in self.sources.items()}
        return PreferenceBatch(policy, reference, weights, margins, sources)
