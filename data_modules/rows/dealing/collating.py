"""Examples -> the batch of a step: one row for the policy, one for the reference."""

from collections.abc import Iterable, Sequence

import torch

from data_modules.rows.encoding import EncodedPair
from lit_longpo.batch import PreferenceBatch
from lit_longpo.engine import pack


def collate(
    examples: Iterable[EncodedPair], sources: Sequence[str] = (), shared_from: int | None = None
) -> PreferenceBatch:
    """Pack examples into one row, and what the reference needs into another (often the same) one.

    Args:
        examples: of the row.
        sources: where there are several, all that examples may come from.
        shared_from: see `pack`.
    """
    examples = list(examples)
    masks = {name: torch.tensor([float(example.source == name) for example in examples]) for name in sources} or None
    policy = pack([group for example in examples for group in example.policy], shared_from=shared_from)
    weights = _unless_all([example.weight for example in examples], 1.0)
    margins = _unless_all([example.margin for example in examples], 0.0)
    if all(example.same_row for example in examples):
        return PreferenceBatch(policy, policy, weights, margins, masks)
    groups = [group for example in examples for group in example.reference]
    reference = pack(groups, shared_from=shared_from) if groups else None
    return PreferenceBatch(policy, reference, weights, margins, masks)


def _unless_all(numbers: Sequence[float], default: float) -> torch.Tensor | None:
    """The examples' numbers, if one of them says something. Shape: (B,)."""
    return torch.tensor(numbers) if any(number != default for number in numbers) else None
