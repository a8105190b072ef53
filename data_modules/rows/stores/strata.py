"""Strata: examples of one source and size, from which an epoch draws as many as the source's share says."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Share:
    """A run of examples, and how many of them an epoch has.

    Args:
        start: index of the first one.
        stop: index after the last one.
        count: below their number some are drawn anew every epoch, above it they come again.
    """

    start: int
    stop: int
    count: int


@dataclass(frozen=True)
class Stratum:
    """Examples that are about equally long, and how many of them an epoch has."""

    members: NDArray[np.int64]
    count: int

    def shuffled(self, draw: random.Random, num_examples: int) -> list[int]:
        """One epoch's, in any order: all of them as often as they fit, and a draw for the rest."""
        members = self.members.tolist()
        whole, rest = divmod(self.count, len(members))
        drawn = [member + again * num_examples for again in range(whole) for member in members]
        if rest:
            drawn += [member + whole * num_examples for member in draw.sample(members, rest)]
        return draw.sample(drawn, len(drawn))


def strata_of(lengths: NDArray[np.int64], shares: Sequence[Share]) -> list[Stratum]:
    """Strata of every source, by size classes in order of first appearance.

    Args:
        lengths: tokens that each example occupies in a row. Shape: (examples,).
        shares: of the sources.
    """
    strata = list[Stratum]()
    for share in shares:
        classes = [share.start + members for members in _size_classes(lengths[share.start : share.stop])]
        if share.count % max(1, share.stop - share.start):
            classes = _likely(classes, lengths, share)
        counts = apportioned(share.count, [len(members) for members in classes])
        strata += [Stratum(members, count) for members, count in zip(classes, counts, strict=True)]
    return strata


def _likely(classes: list[NDArray[np.int64]], lengths: NDArray[np.int64], share: Share) -> list[NDArray[np.int64]]:
    """Classes joined with the next shorter one until an epoch has an example of each: rare lengths come up too."""
    joined, rate = list[NDArray[np.int64]](), Fraction(share.count, share.stop - share.start)
    waiting = np.empty(0, dtype=np.int64)
    for members in sorted(classes, key=lambda members: -int(lengths[members].max())):
        waiting = np.concatenate([waiting, members])
        if len(waiting) * rate >= 1:
            joined.append(np.sort(waiting))
            waiting = waiting[:0]
    if len(waiting):
        joined.append(np.sort(np.concatenate([joined.pop(), waiting])) if joined else np.sort(waiting))
    return joined


def apportioned(total: int, weights: Sequence[Fraction | int]) -> list[int]:
    """Whole numbers in proportion to the weights that add up to the total, none off by one or more.

    Args:
        total: their sum.
        weights: above 0; one at least if there is a total.
    """
    whole = sum(weights)
    exact = [Fraction(total) * weight / whole for weight in weights]
    counts = [int(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda number: (counts[number] - exact[number], number))
    for number in by_remainder[: total - sum(counts)]:
        counts[number] += 1
    return counts


def _size_classes(lengths: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Indices of examples whose lengths agree to one part in sixteen, by class, in order of first appearance."""
    bits = np.frexp(lengths.astype(np.float64))[1]  # a length's bits: exact below 2 ** 53
    steps = np.left_shift(1, np.maximum(0, bits - 5))
    _, firsts, members = np.unique(-(-lengths // steps) * steps, return_index=True, return_inverse=True)
    groups = np.split(np.argsort(members, kind="stable"), np.cumsum(np.bincount(members))[:-1])
    return [groups[number] for number in np.argsort(firsts).tolist()]
