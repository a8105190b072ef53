"""Names of what an objective wants scored: views, and the slots of their sums."""

from dataclasses import dataclass
from typing import Literal

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

    @property
    def reference_alone(self) -> tuple[View, ...]:
        """Views that the reference scores and the policy does not."""
        return tuple(view for view in self.reference if view not in self.policy)


@dataclass(frozen=True)
class Slot:
    """Names one summed log-probability of a batch."""

    example: int
    context: Context
    role: Scope
    index: int
