"""Which records are about one document: those that hold the same long text, unless most of them hold it."""

import hashlib
import re
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from lit_longpo.shingles import chosen_shingles, window_for

# Characters of successive lines that two messages share only by being about one document, or by an instruction.
_SHARED = 100


def text_key(text: str) -> int:
    """Key of a text that only records of one document hold: an odd hash of 64 bits."""
    return _hash(text) | 1


def message_keys(texts: Sequence[str]) -> list[int]:
    """Keys of messages that hold a document somewhere beside the question: odd of all, even of every part.

    A part is a run of lines, from any of them up to where it has 100 characters: a long line, or several short ones.
    Or a run of 100 characters inside a line, which holds the question too: some of these, about 64 in all, so that a
    common run of 200 characters, or of a sixteenth of the longer one of two long messages, is found.

    Args:
        texts: everything that is said before the answer.
    """
    lines = [_lines(text) for text in texts]
    parts = {_hash(part) for of_text in lines for part in _runs_of_lines(of_text)}
    window = window_for(sum(map(len, texts)))
    parts.update(key for line in chain(*lines) for key in chosen_shingles(line, _SHARED, window))
    return [text_key("\0".join(texts)), *{key & ~1 for key in parts}]


def _lines(text: str) -> list[str]:
    return [line for line in map(str.strip, re.split(r"[\r\n]+", text)) if line]


def _runs_of_lines(lines: Sequence[str]) -> Iterable[str]:
    stop, length = 0, 0
    for start, line in enumerate(lines):
        while length < _SHARED and stop < len(lines):
            length += len(lines[stop])
            stop += 1
        if length < _SHARED:
            return
        yield "\n".join(lines[start:stop])
        length -= len(line)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


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

    def specific(self) -> "DocumentKeys":
        """Without parts of messages that more than half of the records hold: instructions, not documents."""
        values, counts = np.unique(self.keys, return_counts=True)
        common = values[(values % 2 == 0) & (2 * counts > len(self))]
        if not len(common):
            return self
        kept = ~np.isin(self.keys, common)
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
