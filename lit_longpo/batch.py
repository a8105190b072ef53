"""What flows between data, engine and objectives.

Shape legend, used in every docstring of the project:
    B  examples in a batch           M  rejected responses of one example
    T  tokens in the packed row      N  scored tokens in the row
    S  slots: (example, context, role, index) whose log-probability is wanted
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from lit_longpo.errors import InputError

Context = Literal["short", "long"]
Role = Literal["chosen", "rejected"]
# What a sum stands for: a response, or the rest of a chosen sequence (prompt and unmasked tokens).
Scope = Literal["chosen", "rejected", "rest"]


@dataclass(frozen=True)
class View:
    """One (context, response) pair that an objective wants scored."""

    context: Context
    role: Role

    def __str__(self) -> str:
        return f"{self.context}.{self.role}"


@dataclass(frozen=True)
class Views:
    """Everything an objective wants scored, by the policy and by the reference.

    Args:
        policy: views scored with gradients.
        reference: views scored once by the frozen reference; empty for reference-free objectives.
        num_rejected: how many rejected responses of each example are used (M).
        sequence: contexts whose whole chosen sequence, prompt included, the policy scores too.
        sequence_format: whether the chat template's own tokens count in `sequence`.
        margins: whether the loss subtracts the pairs' own margins (`Scores.margins`); data with margins are refused
            where it does not.
    """

    policy: tuple[View, ...] = ()
    reference: tuple[View, ...] = ()
    num_rejected: int = 1
    sequence: tuple[Context, ...] = ()
    sequence_format: bool = True
    margins: bool = False


@dataclass(frozen=True)
class Response:
    """Tokens that follow a prompt, and which of them are scored.

    Args:
        role: chosen or rejected.
        token_ids: the response's tokens, end-of-turn token included.
        mask: True where the token belongs to an answer and is scored; questions between the
            answers of a multi-turn response are False. Same length as `token_ids`.
        index: which rejected response this is, `0 <= index < M`; 0 for chosen.
    """

    role: Role
    token_ids: tuple[int, ...]
    mask: tuple[bool, ...]
    index: int = 0


@dataclass(frozen=True)
class Group:
    """One prompt and the responses that continue it; the prompt is computed once.

    Args:
        example: identifier of the example, unique inside a batch.
        context: which context the prompt holds.
        prompt_ids: the prompt's tokens, at least one.
        responses: at least one response; the first shares the prompt's own attention call.
        position_ids: strictly increasing positions of the prompt's tokens; `None` means 0, 1, 2 ...
            Responses continue from the last position.
        turn: distinguishes several groups of one example and context (multi-turn references);
            their log-probabilities are added.
        score_sequence: also score the prompt and the unmasked tokens of the first response, which
            must be the chosen one (`Scores.sequence_nll`).
        sequence_mask: which tokens of prompt and first response `score_sequence` counts besides the
            answers; `None` means all.
    """

    example: str
    context: Context
    prompt_ids: tuple[int, ...]
    responses: tuple[Response, ...]
    position_ids: tuple[int, ...] | None = None
    turn: int = 0
    score_sequence: bool = False
    sequence_mask: tuple[bool, ...] | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens this group occupies in a row."""
        return len(self.prompt_ids) + sum(len(response.token_ids) for response in self.responses)

    @property
    def reach(self) -> int:
        """Positions that prompt and longest response take, synthesised ones as they are."""
        prompt = len(self.prompt_ids) if self.position_ids is None else self.position_ids[-1] + 1
        return prompt + max(len(response.token_ids) for response in self.responses)


@dataclass(frozen=True)
class Segment:
    """A run of queries and the pieces of the row it attends to, its own piece(s) last.

    Args:
        query_length: number of query tokens; segments cover the row in order.
        key_pieces: indices into `SegmentTable.pieces`, in sequence order: the prompt, in one piece or in several if
            prompts of other groups begin as it does, and the response.
    """

    query_length: int
    key_pieces: tuple[int, ...]


@dataclass(frozen=True)
class SegmentTable:
    """The only source of boundaries inside a packed row; host integers, no device sync.

    Args:
        pieces: lengths of the contiguous pieces of the row; they sum to T.
        segments: who attends to what, in row order; their query lengths sum to T.
    """

    pieces: tuple[int, ...]
    segments: tuple[Segment, ...]

    @property
    def num_tokens(self) -> int:
        """T, the length of the row."""
        return sum(self.pieces)

    @property
    def sequence_lengths(self) -> tuple[int, ...]:
        """Tokens that each segment attends to: what its sequence would have as a row of its own."""
        return tuple(sum(self.pieces[piece] for piece in segment.key_pieces) for segment in self.segments)

    @property
    def group_lengths(self) -> tuple[int, ...]:
        """Tokens of each group, prompt and responses, in row order, of those that share together; they sum to T."""
        lengths: dict[int, int] = {}  # by the prompt's piece, which all segments of a group attend to
        for segment in self.segments:
            prompt = segment.key_pieces[0]
            lengths[prompt] = lengths.get(prompt, 0) + segment.query_length
        return tuple(lengths.values())


@dataclass(frozen=True)
class Sharing:
    """What a row's groups would be without each other, where some of them hold tokens together.

    Args:
        groups: of each segment, its group's number.
        scored: of each group, how many of the row's scored tokens are its own; these stand in the groups' order.
        first_tails: of each group, how many of the last tokens of its prompt and first response hold all scored ones.
        num_tokens: of all groups, each with a prompt of its own.
    """

    groups: tuple[int, ...]
    scored: tuple[int, ...]
    first_tails: tuple[int, ...]
    num_tokens: int


@dataclass(frozen=True)
class Slot:
    """Names one summed log-probability of a batch."""

    example: int
    context: Context
    role: Scope
    index: int


def tensor_on(device: torch.device, values: Sequence[float], dtype: torch.dtype) -> Tensor:
    """Numbers of the host on a device, without waiting for it: to a GPU they go from pinned memory."""
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
    """What a data module hands to an objective.

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
        policy = move(self.policy)
        reference = policy if self.same_row else None if self.reference is None else move(self.reference)
        weights, margins = (None if t is None else move_tensor(t) for t in (self.weights, self.margins))
        sources = None if self.sources is None else {name: move_tensor(mask) for name, mask in self.sources.items()}
        return PreferenceBatch(policy, reference, weights, margins, sources)


@dataclass(frozen=True)
class Scores:
    """Summed response log-probabilities of one batch, by view.

    Args:
        sums: fp32 sum over each slot's scored tokens. Shape: (S,).
        counts: scored tokens of each slot. Shape: (S,).
        slots: what the S entries mean.
        margins: by how much each example's chosen reward should exceed the rejected one's. Shape: (B,), or () for all.
        router_loss: how unevenly the row's tokens are spread over experts; `None` if nobody asked. Shape: ().
    """

    sums: Tensor
    counts: Tensor
    slots: tuple[Slot, ...]
    margins: Tensor | float = 0.0
    router_loss: Tensor | None = None
    _positions: dict[Slot, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_positions", {slot: i for i, slot in enumerate(self.slots)})

    def log_probs(self, context: Context, role: Role) -> Tensor:
        """Summed log-probabilities. Shape: (B,) for chosen, (B, M) for rejected.

        Raises:
            KeyError: the view was not scored.
        """
        return self._select(self.sums, context, role)

    def num_tokens(self, context: Context, role: Role) -> Tensor:
        """Scored tokens behind each entry of `log_probs`, same shape.

        Raises:
            KeyError: the view was not scored.
        """
        return self._select(self.counts, context, role)

    def sequence_nll(self, context: Context) -> Tensor:
        """Mean negative log-probability over every token of prompt + chosen but the first. Shape: (B,).

        Raises:
            KeyError: the sequence was not scored.
        """
        sums = self._select(self.sums, context, "chosen") + self._select(self.sums, context, "rest")
        counts = self._select(self.counts, context, "chosen") + self._select(self.counts, context, "rest")
        return -sums / counts

    def _select(self, values: Tensor, context: Context, role: Scope) -> Tensor:
        wanted = [slot for slot in self.slots if slot.context == context and slot.role == role]
        if not wanted:
            scored = sorted({f"{slot.context}.{slot.role}" for slot in self.slots})
            raise KeyError(
                f"view {context}.{role} was not scored, this batch holds {scored}; add it to the objective's `views`"
            )
        wanted.sort(key=lambda slot: (slot.example, slot.index))
        index = tensor_on(values.device, [self._positions[slot] for slot in wanted], torch.int64)
        selected = values.index_select(0, index)
        if role != "rejected":
            return selected
        num_rejected = 1 + max(slot.index for slot in wanted)
        if len(wanted) % num_rejected:
            raise InputError(
                f"expected {num_rejected} rejected responses for every example of the batch, got "
                f"{len(wanted)} in all; give every record the same number (`num_rejected`)"
            )
        return selected.view(-1, num_rejected)
