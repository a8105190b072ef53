"""Which records are about documents of others that are laid out otherwise: in a message, or in a context apart."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lit_longpo.shared_texts.documents import DocumentKeys
from lit_longpo.shared_texts.keys import AROUND_FACTS, KINDS, MESSAGE

_SHARE = 3  # two contexts are about one document if they share one in so many parts of the one with fewer


def about_documents_of(others: DocumentKeys, records: DocumentKeys, *, contexts: bool = True) -> NDArray[np.bool_]:
    """Which records are about a document of the others. Shape: (records,).

    A message and a context are about one if they share a part; where the context says which passages matter, one of
    these. Else two contexts are, or such a context as a whole and a message, if they share a third of the parts of
    the smaller one: copies under another heading do, contexts that have some passages in common do not. Two messages
    are left to `DocumentKeys.labels`.
    """
    ours, theirs = _Parts.of(records), _Parts.of(others)
    found = np.zeros(len(records), dtype=np.bool_)
    swapped = len(theirs.records) > len(ours.records)  # the loop is over the fewer
    if swapped:
        ours, theirs = theirs, ours
    for holder, candidates, shared in ours.meetings(theirs):
        kinds, kind = ours.kinds[candidates], theirs.kinds[holder]
        messages = (kinds == MESSAGE).astype(np.int64) + (kind == MESSAGE)
        alike = _SHARE * shared >= np.minimum(ours.sizes[candidates], theirs.sizes[holder])
        matters = (messages == 1) & (kinds != AROUND_FACTS) & (kind != AROUND_FACTS)
        compared = messages == 1 if not contexts else messages < 2
        about = candidates[compared & (alike | matters)]
        if not swapped:
            found[ours.records[about]] = True
        elif len(about):
            found[theirs.records[holder]] = True
    return found


@dataclass(frozen=True)
class _Parts:
    """Parts of records by what holds them: a record's message, its context, or the passages in it that matter.

    Args:
        values: of all parts, ascending. Shape: (parts,).
        holders: number of what holds each. Shape: (parts,).
        records: each holder's record, kind and number of parts. Shape: (holders,), as of the next two.
        kinds: see `keys`.
        sizes: at least 1.
    """

    values: NDArray[np.uint64]
    holders: NDArray[np.int64]
    records: NDArray[np.int64]
    kinds: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @classmethod
    def of(cls, keys: DocumentKeys) -> "_Parts":
        """The parts among keys."""
        rows = np.repeat(np.arange(len(keys)), np.diff(keys.ends, prepend=0))
        parts = keys.keys % 2 == 0
        kinds = (keys.keys[parts] % KINDS).astype(np.int64)
        ids, holders, sizes = np.unique(rows[parts] * KINDS + kinds, return_inverse=True, return_counts=True)
        values = keys.keys[parts] // KINDS
        order = np.argsort(values, kind="stable")
        return cls(values[order], holders[order], ids // KINDS, ids % KINDS, sizes)

    def meetings(self, others: "_Parts") -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
        """(holder among the others, holders here that share a part with it, how many they share)."""
        met = np.isin(others.values, self.values)
        values, holders = others.values[met], others.holders[met]
        first, last = (np.searchsorted(self.values, values, side) for side in ("left", "right"))
        order = np.argsort(holders, kind="stable")
        if len(order):
            for of_one in np.split(order, np.flatnonzero(np.diff(holders[order])) + 1):
                runs = [self.holders[first[part] : last[part]] for part in of_one]
                candidates, shared = np.unique(np.concatenate(runs), return_counts=True)
                yield int(holders[of_one[0]]), candidates, shared
