"""Ulysses sequence parallelism: R ranks share one packed row, by tokens or by heads.

Everything in a decoder but attention treats tokens one by one, so each rank runs a contiguous part of the
row. Attention treats heads one by one, so in front of it an all-to-all trades token parts of all heads for
the whole row of H / R heads; a second one trades back. In between a rank sees the whole row and the global
segment table: prefix sharing, windows and both backends are the single-process code. An all-to-all only
moves numbers, and its backward is the all-to-all back; so scores and gradients are those of one process.
(Jacobs et al. 2023, "DeepSpeed Ulysses", arXiv 2309.14509. DeepSpeed's own attention wrapper knows plain
causal attention only, hence the exchange is ours.)

Gradients: every rank of the group computes the same loss from the same, summed log-probabilities, and its
parameters get the part of the gradient that runs through its tokens. The true gradient is the sum of the R
parts. Strategies average over all ranks, so `SequenceRanks.total` multiplies the gradient by R: that is the
only place where the size of the group enters, and losses and metrics need no correction.

Shape legend: T padded row, t = T / R tokens of a rank, N scored tokens of the row, n those of a rank.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.nn.functional import pad

from lit_longpo.batch import PackedBatch, Segment, SegmentTable


@dataclass(frozen=True)
class RowPart:
    """The part of a row that one rank computes.

    Args:
        row: the whole row, padded; the same on every rank.
        span: this rank's t tokens of it.
        score_index: position in the span that predicts each of its scored tokens. Shape: (n,).
        score_targets: those tokens. Shape: (n,).
        scored: which of the row's scored tokens they are; `None` means all. Shape: (n,).
    """

    row: PackedBatch
    span: slice
    score_index: Tensor
    score_targets: Tensor
    scored: Tensor | None = None


@dataclass(frozen=True)
class SequenceRanks:
    """The ranks that share a row, as this rank sees them; by default it has the row for itself.

    Args:
        size: R.
        rank: this rank, `0 <= rank < size`.
        group: their process group.
        head_chunks: in how many parts heads are exchanged (`head_chunks.py`).
    """

    size: int = 1
    rank: int = 0
    group: ProcessGroup | None = None
    head_chunks: Literal["auto"] | int = 1

    def split(self, batch: PackedBatch) -> RowPart:
        """This rank's tokens, and the scored tokens that they predict."""
        if self.size == 1:
            return RowPart(batch, slice(None), batch.score_index, batch.score_targets)
        row = padded(batch, self.size)
        length = row.num_tokens // self.size
        first = self.rank * length
        scored = (row.score_index // length == self.rank).nonzero().squeeze(1)
        return RowPart(
            row=row,
            span=slice(first, first + length),
            score_index=row.score_index[scored] - first,
            score_targets=row.score_targets[scored],
            scored=scored,
        )

    def join(self, part: RowPart, log_probs: Tensor) -> Tensor:
        """Log-probabilities of all scored tokens from every rank's own, with the gradient's factor R.

        Args:
            part: what `split` gave.
            log_probs: of this rank's scored tokens. Shape: (n,).

        Returns:
            The same on every rank. Shape: (N,).
        """
        if part.scored is None:
            return log_probs
        return self.total(log_probs.new_zeros(len(part.row.score_index)).index_copy(0, part.scored, log_probs))

    def total(self, tensor: Tensor) -> Tensor:
        """Sum over the ranks, the same on every one, with the gradient's factor R.

        Args:
            tensor: this rank's part, of the same shape on every rank.
        """
        total: Tensor = tensor if self.size == 1 else _Sum.apply(tensor, self)
        return total

    def to_heads(self, tensor: Tensor) -> Tensor:
        """All heads of this rank's tokens -> this rank's heads of all tokens; too few heads are replicated.

        Args:
            tensor: queries, keys or values. Shape: (1, heads, t, D).

        Returns:
            Shape: (1, max(heads, R) / R, T, D).
        """
        return tensor if self.size == 1 else self._trade(self.replicated(tensor)[0]).unsqueeze(0)

    def replicated(self, tensor: Tensor) -> Tensor:
        """With a head for every rank, too few of them repeated.

        Args:
            tensor: Shape: (1, heads, t, D).

        Returns:
            Shape: (1, max(heads, R), t, D).
        """
        return tensor if tensor.shape[1] >= self.size else tensor.repeat_interleave(self.size // tensor.shape[1], dim=1)

    def to_tokens(self, tensor: Tensor) -> Tensor:
        """This rank's heads of all tokens -> all heads of this rank's tokens.

        Args:
            tensor: attention output. Shape: (1, T, H / R, D).

        Returns:
            Shape: (1, t, H, D).
        """
        return tensor if self.size == 1 else self._trade(tensor[0]).unsqueeze(0)

    def own_heads(self, tensor: Tensor) -> Tensor:
        """This rank's part of what every query head has one of; those are the heads that `to_heads` gives it.

        Args:
            tensor: the same on every rank. Shape: (H,).

        Returns:
            Shape: (H / R,).
        """
        return tensor.unflatten(0, (self.size, -1))[self.rank]

    def _trade(self, tensor: Tensor) -> Tensor:
        """Give every rank its part of dimension 0, put what they give together along dimension 1."""
        received: Tensor = _AllToAll.apply(tensor.unflatten(0, (self.size, -1)), self.group)
        return received.transpose(0, 1).flatten(1, 2)


_ranks = SequenceRanks()


def sequence_ranks() -> SequenceRanks:
    """The ranks that share every row of this process."""
    return _ranks


def set_sequence_group(group: ProcessGroup | None, head_chunks: Literal["auto"] | int = 1) -> None:
    """Share rows with the ranks of a group from now on.

    Args:
        group: ranks in row order; `None` ends it.
        head_chunks: in how many parts heads are exchanged (`head_chunks.py`).
    """
    global _ranks
    _ranks = SequenceRanks() if group is None else SequenceRanks(group.size(), group.rank(), group, head_chunks)


def padded(batch: PackedBatch, multiple: int) -> PackedBatch:
    """The row, as long as a multiple, with tokens at its right end that nothing attends to or scores: a segment."""
    missing = -batch.num_tokens % multiple
    if not missing:
        return batch
    pieces, segments = batch.table.pieces, batch.table.segments
    return replace(
        batch,
        input_ids=pad(batch.input_ids, (0, missing)),
        position_ids=pad(batch.position_ids, (0, missing)),
        table=SegmentTable((*pieces, missing), (*segments, Segment(missing, (len(pieces),)))),
    )


class _AllToAll(torch.autograd.Function):
    """Part i of dimension 0 goes to rank i. (Torch's differentiable collectives are deprecated or private.)."""

    @staticmethod
    def forward(ctx: Any, parts: Tensor, group: ProcessGroup) -> Tensor:
        ctx.group = group
        parts = parts.contiguous()
        received = torch.empty_like(parts)
        torch.distributed.all_to_all_single(received, parts, group=group)
        return received

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _AllToAll.apply(grads[0], ctx.group), None


class _Sum(torch.autograd.Function):
    """Sum over the ranks; see the module's docstring for the factor in backward."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, ranks: SequenceRanks) -> Tensor:
        ctx.size = ranks.size
        total = values.clone()
        torch.distributed.all_reduce(total, group=ranks.group)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] * ctx.size, None
