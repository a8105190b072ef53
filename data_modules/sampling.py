"""Batches as token budgets: deterministic, the same count on every rank, resumable in mid-epoch."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import Sampler


class Epoch:
    """Holds the epoch; Lightning calls `set_epoch` on `batch_sampler.sampler`."""

    def __init__(self) -> None:
        self.number = 0

    def set_epoch(self, epoch: int) -> None:
        """Decides the order of the next pass."""
        self.number = epoch


class TokenBudgetBatchSampler(Sampler[list[int]]):
    """Fills rows with examples up to a token budget.

    Examples are taken in (shuffled) order; a row is closed when the next one would not fit. Every
    rank gets the same number of rows: when they do not divide evenly the first rows are repeated, as
    `DistributedSampler` does, so that no example is left out.

    Args:
        lengths: tokens that each example occupies in a row.
        max_tokens: budget of one row.
        max_examples: at most this many examples in a row; `None` means as many as fit.
        shuffle: new order every epoch.
        seed: of the order.
        num_replicas: data-parallel ranks.
        rank: this rank.

    Raises:
        ValueError: an example is longer than a row, or the budget is not positive.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        max_tokens: int,
        max_examples: int | None = None,
        *,
        shuffle: bool = False,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        if max_examples is not None and max_examples < 1:
            raise ValueError(f"expected `max_examples` of at least 1, got {max_examples}; null means no limit")
        longest = max(lengths, default=0)
        if longest > max_tokens:
            raise ValueError(
                f"expected every example to fit into a row of {max_tokens} tokens, example {lengths.index(longest)} "
                f"has {longest}; set `data.init_args.max_tokens` to at least {longest}, or shorten contexts"
            )
        self.lengths, self.max_tokens, self.max_examples = lengths, max_tokens, max_examples
        self.shuffle, self.seed = shuffle, seed
        self.num_replicas, self.rank = num_replicas, rank
        self.sampler = Epoch()
        self._known: tuple[int, list[list[int]]] | None = None

    def __len__(self) -> int:
        return len(self.batches(self.sampler.number))

    def __iter__(self) -> "BatchIterator":
        return BatchIterator(self, self.sampler.number)

    def batches(self, epoch: int) -> list[list[int]]:
        """This rank's rows in one epoch, as example indices."""
        if self._known is None or self._known[0] != epoch:
            rows = self._rows(self._order(epoch))
            missing = -len(rows) % self.num_replicas
            rows += [rows[number % len(rows)] for number in range(missing)]
            self._known = (epoch, rows[self.rank :: self.num_replicas])
        return self._known[1]

    def _order(self, epoch: int) -> list[int]:
        order = list(range(len(self.lengths)))
        if self.shuffle:
            random.Random(f"{self.seed}-{epoch}").shuffle(order)
        return order

    def _rows(self, order: Sequence[int]) -> list[list[int]]:
        rows: list[list[int]] = []
        left = 0
        for index in order:
            full = not rows or self.lengths[index] > left or len(rows[-1]) == self.max_examples
            if full:
                rows.append([])
                left = self.max_tokens
            rows[-1].append(index)
            left -= self.lengths[index]
        return rows


class BatchIterator(Iterator[list[int]]):
    """One pass over the rows; knows epoch and position, so that a loader can resume exactly."""

    def __init__(self, sampler: TokenBudgetBatchSampler, epoch: int) -> None:
        self._sampler, self._epoch, self._position = sampler, epoch, 0

    def __next__(self) -> list[int]:
        rows = self._sampler.batches(self._epoch)
        if self._position >= len(rows):
            raise StopIteration
        self._position += 1
        return rows[self._position - 1]

    def state_dict(self) -> dict[str, Any]:
        """Epoch and number of rows handed out."""
        return {"epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue after the rows that were handed out before."""
        self._epoch, self._position = state["epoch"], state["position"]
