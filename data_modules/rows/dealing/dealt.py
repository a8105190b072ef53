"""The rows of a training as they are dealt: whose examples they hold, and how many examples a run has seen."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from data_modules.rows.dealing.sampling import TokenBudgetBatchSampler
from data_modules.rows.stores.token_store import Examples


@dataclass(frozen=True)
class DealtRows:
    """What a sampler deals of its examples.

    Args:
        sampler: of the training.
        examples: that it deals; it numbers on where an example comes again.
    """

    sampler: TokenBudgetBatchSampler
    examples: Examples

    def names(self, epoch: int, start: int, end: int) -> Iterator[str]:
        """Names of the examples in this rank's rows of an epoch, from row `start` to before row `end`."""
        rows = self.sampler.batches(epoch)[start:end]
        return (self.examples.name_of(number) for row in rows for number in row)

    def num_trained(self, rows: Mapping[int, int]) -> int:
        """How many different examples have been trained on, after so many rows of each rank in each epoch."""
        trained = np.zeros(len(self.examples), dtype=np.bool_)
        for epoch, count in rows.items():
            if trained.all():
                break
            trained[[number % len(trained) for row in self.sampler.first(epoch, count) for number in row]] = True
        return int(trained.sum())
