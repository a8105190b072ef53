"""Hand-made scores for tests of objectives: a view -> summed log-probabilities of the examples."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lit_longpo.batch import Context, Role, Scores, Slot


def tensor(*values: float) -> Tensor:
    """Float64. Shape: (len(values),)."""
    return torch.tensor(values, dtype=torch.float64)


def leaves(seed: int, count: int) -> list[Tensor]:
    """Log-probabilities that gradients are asked for. Shape of each: (3,)."""
    generator = torch.Generator().manual_seed(seed)
    values = [-5 * torch.rand(3, generator=generator, dtype=torch.float64) - 0.1 for _ in range(count)]
    return [value.requires_grad_() for value in values]


def token_counts(seed: int, count: int) -> list[Tensor]:
    """Scored tokens, 1 to 8. Shape of each: (3,)."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(1, 9, (3,), generator=generator).double() for _ in range(count)]


def scores(
    sums: Mapping[tuple[Context, Role], Sequence[float]], tokens: Mapping[Role, Sequence[float]] | None = None
) -> Scores:
    """Scores of views, one response each.

    Args:
        sums: log-probabilities of each view's examples.
        tokens: scored tokens of each role's examples; `None` means two everywhere.
    """
    slots, values, counts = [], [], []
    for (context, role), numbers in sums.items():
        for example, value in enumerate(numbers):
            slots.append(Slot(example, context, role, 0))
            values.append(value)
            counts.append(tokens[role][example] if tokens else 2.0)
    return Scores(tensor(*values), tensor(*counts), tuple(slots))
