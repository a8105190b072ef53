"""Examples of several sources as one store, and how many of each an epoch has."""

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate
from math import ceil, floor
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data_modules.rows.encoding import EncodedPair
from data_modules.rows.stores.kept_examples import KeptExamples
from data_modules.rows.stores.strata import Share, apportioned
from data_modules.rows.stores.token_store import Examples, Numbered
from lit_longpo.errors import InputError
from lit_longpo.shared_texts import DocumentKeys

Smaller = Literal["repeat", "stop"]


@dataclass(frozen=True)
class SourceCounts:
    """What of a source's training examples an epoch has.

    Args:
        examples: it has.
        per_epoch: examples of an epoch; the smallest and the largest number of times that one of them comes differ
            by one at most.
        weight: its share of an epoch.
    """

    examples: int
    per_epoch: int
    weight: float


class MixedExamples(Examples):
    """Examples of several stores under names that tell their sources.

    Indices beyond the last example are further copies: `number of examples * times + index`.

    Args:
        parts: the stores, by source.

    Attributes:
        parts: likewise, in order.
    """

    def __init__(self, parts: Mapping[str, Examples]) -> None:
        self.parts = list(parts.items())
        self.sizes = {name: len(part) for name, part in parts.items()}
        self._ends = list(accumulate(self.sizes.values()))
        self._lengths = np.concatenate([part.lengths for part in parts.values()])
        self.names = _Names(self)
        self.sources = [name for name, size in self.sizes.items() if size]

    def without(self, numbers: Mapping[str, NDArray[np.int64]]) -> "MixedExamples":
        """All but the examples of some sources with these numbers in them."""
        parts = dict(self.parts)
        for name, left_out in numbers.items():
            if len(left_out):
                parts[name] = KeptExamples(parts[name], np.setdiff1d(np.arange(len(parts[name])), left_out))
        return MixedExamples(parts)

    def set_shares(self, counts: Mapping[str, SourceCounts]) -> None:
        """Say how many examples of each source an epoch has."""
        starts = [0, *self._ends]
        self.shares = [
            Share(start, start + of_source.examples, of_source.per_epoch)
            for start, of_source in zip(starts, counts.values(), strict=False)
            if of_source.examples
        ]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens that each example occupies in a row. Shape: (examples,)."""
        return self._lengths

    @property
    def reference_lengths(self) -> NDArray[np.int64]:
        """Tokens that each example occupies in a row of the reference. Shape: (examples,)."""
        return np.concatenate([part.reference_lengths for _, part in self.parts])

    @property
    def documents(self) -> Mapping[str, DocumentKeys]:
        """Keys of what the examples are about, by source."""
        return {name: keys for name, part in self.parts for keys in part.documents.values()}

    def __len__(self) -> int:
        return self._ends[-1]

    def __iter__(self) -> Iterator[EncodedPair]:
        """Every example once; indices alone would go on with copies for ever."""
        return (self[number] for number in range(len(self)))

    def fingerprint(self) -> str:
        """Hash of the sources' and of their shares (32 hex digits)."""
        parts = [(name, part.fingerprint()) for name, part in self.parts]
        return hashlib.sha256(repr((parts, self.shares)).encode()).hexdigest()[:32]

    def item(self, index: int) -> EncodedPair:
        """The example, or one of its further copies, under a name of its own."""
        number = index % len(self)
        source, part, within = self._place(number)
        example = replace(part[within], source=source)
        return _renamed(example, self.name_of(index))

    def name(self, number: int) -> str:
        """What records and reports call an example."""
        source, part, within = self._place(number)
        return f"{source}/{part.names[within]}"

    def _place(self, number: int) -> tuple[str, Examples, int]:
        """The source, its store, and the example's number in it."""
        place = bisect_right(self._ends, number)
        source, part = self.parts[place]
        return source, part, number - self._ends[place] + len(part)


class _Names(Numbered[str]):
    """The examples' names, made when they are asked for."""

    def __init__(self, examples: MixedExamples) -> None:
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def item(self, index: int) -> str:
        """The example's name."""
        return self._examples.name(range(len(self))[index])


def _renamed(example: EncodedPair, name: str) -> EncodedPair:
    """The example under another name; where policy and reference score the same row they still do."""
    policy = tuple(replace(group, example=name) for group in example.policy)
    reference = policy if example.same_row else tuple(replace(group, example=name) for group in example.reference)
    return replace(example, policy=policy, reference=reference)


def counts_of(
    sizes: Mapping[str, int], weights: Mapping[str, float] | None, smaller: Smaller
) -> dict[str, SourceCounts]:
    """How many examples of each source an epoch has.

    Raises:
        InputError: a source with a weight has no examples, or its weight gives it none.
    """
    if weights is None:
        total = max(1, sum(sizes.values()))
        return {name: SourceCounts(size, size, size / total) for name, size in sizes.items()}
    exact = {name: Fraction(str(weights[name])) for name in sizes}
    whole = sum(exact.values())
    empty = [name for name, size in sizes.items() if not size]
    if empty:
        raise InputError(
            f"expected training examples in every source of the mixture, got none in {', '.join(empty)}; see the "
            "counts in the log above, or take it out of `data.init_args.sources` and `weights`"
        )
    lasts = [size * whole / exact[name] for name, size in sizes.items()]  # examples of an epoch that uses it up
    total = ceil(max(lasts)) if smaller == "repeat" else floor(min(lasts))
    counts = dict(zip(sizes, apportioned(total, list(exact.values())), strict=True))
    for name, count in counts.items():
        if not count:
            raise InputError(
                f"expected a weight that gives {name!r} an example of every epoch of {total}, got {weights[name]:g} of "
                f"{float(whole):g}; raise it in `data.init_args.weights`, or set `smaller: repeat`"
            )
    return {name: SourceCounts(sizes[name], count, float(exact[name] / whole)) for name, count in counts.items()}
