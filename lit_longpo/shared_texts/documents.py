"""Which records are about one document: those whose texts share a key, unless most of them have it."""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lit_longpo.shared_texts.keys import KINDS, MESSAGE


@dataclass(frozen=True)
class DocumentKeys:
    """Keys of records, which share a document if they share a key: 8 bytes a key, whatever the texts.

    Args:
        keys: of all records, one after the other, each once in a record. Shape: (keys,).
        ends: where each record's end. Shape: (records,).
    """

    keys: NDArray[np.uint64]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, records: Iterable[Iterable[int]]) -> "DocumentKeys":
        """From the keys of each record, in one pass."""
        keys, ends = array("Q"), array("q")
        for record in records:
            keys.extend(record)
            ends.append(len(keys))
        return cls(np.frombuffer(keys, np.uint64), np.frombuffer(ends, np.int64))

    @classmethod
    def joined(cls, parts: Sequence["DocumentKeys"]) -> "DocumentKeys":
        """Records of several, one after the other."""
        starts = np.cumsum([0, *(len(part.keys) for part in parts)])
        ends = [part.ends + start for part, start in zip(parts, starts.tolist(), strict=False)]
        return cls(np.concatenate([part.keys for part in parts]), np.concatenate(ends))

    def __len__(self) -> int:
        return len(self.ends)

    def chosen(self, numbers: NDArray[np.int64]) -> "DocumentKeys":
        """Documents of the records with these numbers, which ascend."""
        sizes = np.diff(self.ends, prepend=0)
        kept = np.zeros(len(self), dtype=np.bool_)
        kept[numbers] = True
        return DocumentKeys(self.keys[np.repeat(kept, sizes)], np.cumsum(sizes[kept]))

    def specific(self) -> "DocumentKeys":
        """Without parts of messages that more than half of the records hold: instructions, not documents."""
        values, counts = np.unique(self.keys, return_counts=True)
        common = values[(values % 2 == 0) & (2 * counts > len(self))]
        if not len(common):
            return self
        return self._where(~np.isin(self.keys, common))

    def without_contexts(self) -> "DocumentKeys":
        """Without what `context_keys` are."""
        return self._where((self.keys % 2 == 1) | (self.keys % KINDS == MESSAGE))

    def _where(self, kept: NDArray[np.bool_]) -> "DocumentKeys":
        return DocumentKeys(self.keys[kept], np.concatenate([[0], np.cumsum(kept)])[self.ends])

    def labels(self) -> NDArray[np.int64]:
        """For each record the number of the first one with which it shares a key, directly or by way of others.

        Shape: (records,).
        """
        labels = np.arange(len(self))
        _, members, counts = np.unique(self.keys, return_inverse=True, return_counts=True)
        shared = counts[members] > 1
        rows = np.repeat(labels, np.diff(self.ends, prepend=0))[shared]
        members = members[shared]
        while True:
            lowest = np.full(len(counts), len(self))
            np.minimum.at(lowest, members, labels[rows])
            lower = labels.copy()
            np.minimum.at(lower, rows, lowest[members])
            np.minimum.at(lower, labels, lower.copy())  # whom a record followed follows it on, so chains shorten
            lower = lower[lower]
            if np.array_equal(labels, lower):
                return labels
            labels = lower
