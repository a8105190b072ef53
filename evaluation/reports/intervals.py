"""Means and their bootstrap intervals. Seeded: the same scores always give the same interval.

Questions about one context stand or fall together, so that contexts are drawn, with all of their questions. Where
every question has a context of its own this is the plain bootstrap over questions.
"""

import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
CONFIDENCE = 0.95
_BLOCK = 2_000_000  # drawn indices in memory at once
_REMEMBERED = 512  # draws of so many means: tables and figures of a report ask for the same ones; 8 MB


@dataclass(frozen=True)
class ClusteredScores:
    """Scores, and which of them belong together.

    Args:
        scores: 0 to 1, or differences of such. Shape: (num_scores,)
        contexts: what each was asked about; an empty one stands for a context of its own. Shape: (num_scores,)
    """

    scores: tuple[float, ...]
    contexts: tuple[str, ...] = ()

    @classmethod
    def of(cls, scores: "ClusteredScores | Sequence[float]") -> "ClusteredScores":
        """Scores without contexts are one of each."""
        return scores if isinstance(scores, ClusteredScores) else cls(tuple(scores))

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def clusters(self) -> tuple[int, ...]:
        """The number of the context of each score, from 0 in the order in which they come. Shape: (num_scores,)."""
        numbers = dict[str | int, int]()
        names = self.contexts or ("",) * len(self.scores)
        return tuple(numbers.setdefault(name or place, len(numbers)) for place, name in enumerate(names))

    @property
    def named_contexts(self) -> frozenset[str]:
        """All contexts, where each score names one; else none."""
        return frozenset(self.contexts) if all(self.contexts or ("",)) else frozenset()

    def by_context(self) -> "ClusteredScores":
        """In the order of the contexts' names."""
        order = sorted(range(len(self)), key=self.contexts.__getitem__)
        return ClusteredScores(tuple(self.scores[n] for n in order), tuple(self.contexts[n] for n in order))

    @property
    def num_contexts(self) -> int:
        """Number of different contexts."""
        return max(self.clusters, default=-1) + 1


def method(sample: ClusteredScores) -> str:
    """How intervals of these scores are made, in words.

    Args:
        sample: of a whole report.
    """
    unknown = bool(sample.scores) and not all(sample.contexts or ("",))
    over = f"{sample.num_contexts:,} contexts, each drawn with all of its examples"
    if unknown:
        over = "examples, as these predictions do not say which of them share a context (stored by an earlier version)"
    elif sample.num_contexts == len(sample):
        over = "examples"
    return (
        f"{CONFIDENCE:.0%} intervals: percentile bootstrap over {over}; {RESAMPLES:,} resamples, seeded; a mean of "
        "tasks resamples within each task, those about the same contexts together. They say how much the figures "
        "depend on which examples were asked, nothing else."
    )


@dataclass(frozen=True)
class Estimate:
    """A mean and its interval.

    Args:
        mean: of the scores.
        low: lower end; NaN where one score, or one context, leaves nothing to resample.
        high: upper end, likewise.
        num: scores.
    """

    mean: float
    low: float
    high: float
    num: int


def estimate(scores: ClusteredScores | Sequence[float], name: str = "") -> Estimate:
    """Mean of scores and its 95 % interval, by a bootstrap over contexts.

    Args:
        scores: at least one.
        name: draws of different names are independent.
    """
    return estimate_mean_of({name: scores})


def estimate_mean_of(
    groups: Mapping[str, ClusteredScores | Sequence[float]], weights: Mapping[str, float] | None = None
) -> Estimate:
    """Mean of the groups' means, whatever their sizes.

    Groups about the same contexts have these drawn once for all of them: the questions of LV-Eval's levels are no
    others at each. Of groups that share some contexts only, each is drawn for itself.

    Args:
        groups: scores by name; at least one group, none empty.
        weights: of the groups, together 1; `None` means equal ones.
    """
    shares = np.array([1 / len(groups) if weights is None else weights[name] for name in groups])
    samples = {name: ClusteredScores.of(scores) for name, scores in groups.items()}
    mean = float(shares @ [fmean(sample.scores) for sample in samples.values()])
    num = sum(map(len, samples.values()))
    if any(sample.num_contexts < 2 for sample in samples.values()):
        return Estimate(mean, float("nan"), float("nan"), num)
    draws = shares @ np.array([resampled_means(sample, name) for name, sample in _together(samples)])
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(mean, float(low), float(high), num)


def _together(samples: Mapping[str, ClusteredScores]) -> Iterator[tuple[str, ClusteredScores]]:
    """The samples, each with what seeds its draws: those about the same contexts in one order, by the first's name."""
    first, times = dict[frozenset[str], str](), Counter(sample.named_contexts for sample in samples.values())
    for name, sample in samples.items():
        contexts = sample.named_contexts
        if contexts and times[contexts] > 1:
            yield first.setdefault(contexts, name), sample.by_context()
        else:
            yield name, sample


def resampled_means(scores: ClusteredScores | Sequence[float], name: str = "") -> NDArray[np.float64]:
    """Means of samples with replacement, of whole contexts. Shape: (RESAMPLES,). The same array for the same arguments.

    It is not writable.

    Args:
        scores: the original sample.
        name: seeds the draws.
    """
    sample = ClusteredScores.of(scores)
    return _draws(sample.scores, sample.clusters, name)


@lru_cache(_REMEMBERED)
def _draws(scores: tuple[float, ...], clusters: tuple[int, ...], name: str) -> NDArray[np.float64]:
    sums, sizes = np.bincount(clusters, weights=scores), np.bincount(clusters)
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    rows = max(1, _BLOCK // len(sums))
    blocks = [min(rows, RESAMPLES - start) for start in range(0, RESAMPLES, rows)]
    chosen = (generator.integers(len(sums), size=(block, len(sums))) for block in blocks)
    # A drawn context brings all of its scores, so the mean is over as many as came along.
    means = np.concatenate([sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1) for drawn in chosen])
    means.flags.writeable = False
    return means


@dataclass(frozen=True)
class OfficialNumber:
    """One official number and the scores behind it.

    Args:
        value: percent, rounded as the benchmark rounds.
        scores: 0 to 1, at least one.
    """

    value: float
    scores: ClusteredScores | Sequence[float]


@dataclass(frozen=True)
class Mean:
    """A mean of the rounded numbers, as published tables have it.

    Args:
        parts: what it is of, by name; at least one.
        weights: of the parts, together 1; `None` means equal ones.
    """

    parts: Mapping[str, OfficialNumber]
    weights: Mapping[str, float] | None = None

    @property
    def value(self) -> float:
        """0 to 1."""
        shares = self.weights or dict.fromkeys(self.parts, 1 / len(self.parts))
        return sum(shares[name] * part.value for name, part in self.parts.items()) / 100

    def estimate(self) -> Estimate:
        """With an interval from the scores."""
        spread = estimate_mean_of({name: part.scores for name, part in self.parts.items()}, self.weights)
        return replace(spread, mean=self.value)


Means = dict[str, Mean]


def means_of(groups: Mapping[str, Mapping[str, OfficialNumber]]) -> Means:
    """The mean of each group that has any part."""
    return {name: Mean(parts) for name, parts in groups.items() if parts}
