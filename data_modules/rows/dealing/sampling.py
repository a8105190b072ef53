"""Batches as token budgets: deterministic, the same count on every rank, resumable in mid-epoch."""

import random
import sys
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from data_modules.rows.stores.strata import Share, strata_of
from lit_longpo.errors import InputError

_OPEN_ROWS = 32  # rows that a later example may still be put into, when the order is free


class Epoch:
    """Holds the epoch; Lightning calls `set_epoch` on `batch_sampler.sampler`."""

    def __init__(self) -> None:
        self.number = 0

    def set_epoch(self, epoch: int) -> None:
        """Decides the order of the next pass."""
        self.number = epoch


class TokenBudgetBatchSampler(Sampler[list[int]]):
    """Fills rows with examples up to a token budget.

    Rows are laid out once, for classes of examples that are about equally long; every epoch deals the
    examples of each class anew. So batches change, but an epoch always has the same number of rows:
    Lightning reads that number once and would drop the rows of a longer epoch.

    Every rank gets the same number of rows. When they do not divide evenly, the rows of a fixed order are split, so
    that a validation counts every example once; in a shuffled order, or where no row has two examples, the first rows
    are repeated, as `DistributedSampler` does. No example is left out.

    Args:
        lengths: tokens that each example occupies in a row.
        max_tokens: budget of one row.
        max_examples: at most this many examples in a row; `None` means as many as fit.
        shuffle: new order every epoch; False keeps the examples in their own order.
        seed: of the order.
        num_replicas: data-parallel ranks.
        rank: this rank.
        names: what errors call the examples; their indices by default.
        shares: with `shuffle`, how many examples of each source an epoch has; `None` takes every example once. An
            example that comes again in an epoch has the number of all examples added to its index, once for each time.
        counts: how many examples each of `lengths` stands for; `None` is one.

    Raises:
        InputError: an example is longer than a row.
    """

    def __init__(
        self,
        lengths: Sequence[int] | NDArray[np.int64],
        max_tokens: int,
        max_examples: int | None = None,
        *,
        shuffle: bool = False,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
        names: Sequence[str] | None = None,
        shares: Sequence[Share] | None = None,
        counts: Sequence[int] | None = None,
    ) -> None:
        self.lengths = np.asarray(lengths, dtype=np.int64)
        longest = int(self.lengths.max(initial=0))
        if longest > max_tokens:
            number = int(self.lengths.argmax())
            name = names[number] if names else number
            raise InputError(
                f"expected every example to fit into a row of {max_tokens} tokens, example {name!r} has "
                f"{longest}; set `data.init_args.max_tokens` to at least {longest}, or shorten contexts"
            )
        self.max_tokens, self.max_examples = max_tokens, max_examples
        self.shuffle, self.seed = shuffle, seed
        self.num_replicas, self.rank = num_replicas, rank
        self.sampler = Epoch()
        rest = f"{max_tokens}, {max_examples}, {shuffle}, {seed}" + (f", {list(shares)}" if shares else "")
        self.digest = _checksum(self.lengths, names, rest)
        self._counts = np.ones_like(self.lengths) if counts is None else np.asarray(counts, dtype=np.int64)
        every = Share(0, len(self.lengths), len(self.lengths))
        self._strata = strata_of(self.lengths, shares or [every]) if shuffle else []
        self._layout = self._dealt_anew() if shuffle else self._split(self._in_order())
        self._dealt: tuple[int, list[list[int]]] | None = None  # the epoch asked for last, and its rows

    def __len__(self) -> int:
        """Rows of one epoch on this rank, the same on every rank and in every epoch."""
        return -(-len(self._layout) // self.num_replicas)

    def __iter__(self) -> "BatchIterator":
        return BatchIterator(self)

    @property
    def num_repeated(self) -> int:
        """Rows of an epoch that come once more, so that every rank has as many."""
        return -len(self._layout) % self.num_replicas

    def batches(self, epoch: int) -> list[list[int]]:
        """This rank's rows in one epoch, as example indices."""
        if self._dealt is None or self._dealt[0] != epoch:
            rows = self._deal(epoch)
            rows += [rows[number % len(rows)] for number in range(self.num_repeated)]
            self._dealt = (epoch, rows[self.rank :: self.num_replicas])
        return self._dealt[1]

    def first(self, epoch: int, count: int) -> list[list[int]]:
        """The first `count` rows of every rank in one epoch, without rows that were added to make the shares equal."""
        return self._deal(epoch)[: count * self.num_replicas]

    def is_repeated(self, number: int) -> bool:
        """Whether this rank's row of that number was added to make shares equal, in an epoch of fixed order."""
        return self.rank + number * self.num_replicas >= len(self._layout)

    def _dealt_anew(self) -> list[list[int]]:
        """Rows of size classes, in a shuffled order, whose gaps later examples fill."""
        order = [number for number, stratum in enumerate(self._strata) for _ in range(stratum.count)]
        random.Random(self.seed).shuffle(order)
        # A class takes the room of its longest member: whichever the epoch deals, it fits.
        size, counts = ([int(v[one.members].max()) for one in self._strata] for v in (self.lengths, self._counts))
        return self._lay_out(order, size, counts, _OPEN_ROWS)

    def _in_order(self) -> list[list[int]]:
        """Rows of examples in their own order: only the last row is open."""
        return self._lay_out(range(len(self.lengths)), self.lengths.tolist(), self._counts.tolist(), 1)

    def _lay_out(
        self, order: Sequence[int], size: Sequence[int], counts: Sequence[int], open_rows: int
    ) -> list[list[int]]:
        """Each goes into the first open row with room for it."""
        rows, left, filled, most = list[list[int]](), list[int](), list[int](), self.max_examples or sys.maxsize
        # Rows only fill up, so where a class had no room it never will: its search goes on where it ended.
        first = dict[int, int]()
        for name in order:
            room = size[name]
            row = max(first.get(name, 0), len(rows) - open_rows, 0)
            while row < len(rows) and (room > left[row] or filled[row] + counts[name] > most):
                row += 1
            if row == len(rows):
                rows.append([])
                left.append(self.max_tokens)
                filled.append(0)
            rows[row].append(name)
            left[row] -= room
            filled[row] += counts[name]
            if open_rows > 1:
                first[name] = row
        return rows

    def _split(self, rows: list[list[int]]) -> list[list[int]]:
        """As many rows more as the ranks need for equal shares, while there are rows to halve."""
        while len(rows) % self.num_replicas and (most := max(map(len, rows))) > 1:
            number = next(i for i, row in enumerate(rows) if len(row) == most)
            row = rows[number]
            rows[number : number + 1] = [row[: most // 2], row[most // 2 :]]
        return rows

    def _deal(self, epoch: int) -> list[list[int]]:
        """Rows of examples; in a shuffled epoch another example of the class, and rows in another order."""
        if not self.shuffle:
            return list(self._layout)
        draw = random.Random(f"{self.seed}-{epoch}")
        drawn = [stratum.shuffled(draw, len(self.lengths)) for stratum in self._strata]
        rows = [[drawn[number].pop() for number in row] for row in self._layout]
        draw.shuffle(rows)
        return rows


class BatchIterator(Iterator[list[int]]):
    """One pass over the rows; knows epoch and position, so that a loader can resume exactly.

    The epoch is read with the first row: Lightning makes the iterator before it sets the epoch.
    """

    def __init__(self, sampler: TokenBudgetBatchSampler) -> None:
        self._sampler, self._epoch, self._position = sampler, sampler.sampler.number, 0
        self._started = False

    def __next__(self) -> list[int]:
        epoch = self._sampler.sampler.number
        if not self._started and epoch != self._epoch and self._position in (0, len(self._sampler)):
            self._epoch, self._position = epoch, 0
        self._started = True
        rows = self._sampler.batches(self._epoch)
        if self._position >= len(rows):
            raise StopIteration
        self._position += 1
        return rows[self._position - 1]

    def state_dict(self) -> dict[str, Any]:
        """Epoch, number of rows handed out and to hand out, and a checksum of what the rows depend on."""
        sampler = self._sampler
        return {
            "epoch": self._epoch,
            "position": self._position,
            "rows": len(sampler),
            "digest": sampler.digest,
            "num_replicas": sampler.num_replicas,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue after the rows that were handed out before.

        At the end of an epoch another number of ranks may go on: that epoch is over for them too.

        Raises:
            InputError: in mid-epoch, and the rows are not those that the state counts.
        """
        sampler = self._sampler
        position, rows = state["position"], state["rows"]
        same_rows = (state["digest"], state["num_replicas"]) == (sampler.digest, sampler.num_replicas)
        if 0 < position < rows and not same_rows:
            ranks = state["num_replicas"]
            named = "type its value of what `going on with changed settings` names above"
            how = named if ranks == sampler.num_replicas else f"set --trainer.devices so that there are {ranks} ranks"
            raise InputError(
                "expected the data, `max_tokens`, `max_examples`, `share_prompts`, `seed` and number of data-parallel "
                f"ranks ({ranks}) of the run that stopped after row {position} of epoch {state['epoch']}, got others "
                f"({sampler.num_replicas} ranks); {how}, or resume from a checkpoint that was saved at the end of an "
                "epoch"
            )
        self._epoch, self._position = state["epoch"], len(sampler) if position == rows else position
        sampler.sampler.set_epoch(self._epoch)


def _checksum(lengths: NDArray[np.int64], names: Sequence[str] | None, rest: str) -> int:
    """CRC of what `repr((lengths, names, ...))` would be as lists, without ever holding it."""
    crc = _list_checksum(lengths, zlib.crc32(b"("))
    crc = zlib.crc32(b", None", crc) if names is None else _list_checksum(names, zlib.crc32(b", ", crc))
    return zlib.crc32(f", {rest})".encode(), crc)


def _list_checksum(values: Sequence[Any] | NDArray[np.int64], crc: int) -> int:
    crc = zlib.crc32(b"[", crc)
    for start in range(0, len(values), 1 << 16):
        part = values[start : start + (1 << 16)]
        text = repr(part.tolist() if isinstance(part, np.ndarray) else list(part))[1:-1]
        crc = zlib.crc32(f"{', ' if start else ''}{text}".encode(), crc)
    return zlib.crc32(b"]", crc)
