"""The engine's scores for a loss: summed log-probabilities by view."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from lit_longpo.batch.packed import tensor_on
from lit_longpo.batch.views import Context, Role, Scope, Slot
from lit_longpo.errors import InputError


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
