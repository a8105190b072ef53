"""Means and their bootstrap intervals. Seeded: the same scores always give the same interval.

Questions about one context stand or fall together, so that contexts are drawn, with all of their questions. Where
every question has a context of its own this is the plain bootstrap over questions. Where all contexts have the same
score nothing can be drawn: the interval then says how many contexts may have another score though none was seen.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
CONFIDENCE = 0.95
_ROUNDING = 1e-9
_FEW = 20  # contexts: in simulations, intervals over 5 of 4 questions each held the mean 84 times in 100, over 10 93
_BLOCK = 2_000_000  # drawn indices in memory at once
_REMEMBERED = 512  # draws of so many means: tables and figures of a report ask for the same ones; 8 MB


@dataclass(frozen=True)
class ClusteredScores:
    """Scores, and which of them are about the same context.

    Args:
        scores: 0 to 1, or differences of such. Shape: (num_scores,)
        contexts: what each was asked about; an empty one stands for a context of its own. Shape: (num_scores,)
        least: the worst score that there can be, 0, or -1 for differences; the best is 1.
    """

    scores: tuple[float, ...]
    contexts: tuple[str, ...] = ()
    least: float = 0.0

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
        """The contexts of all scores if each score names one; else nothing."""
        return frozenset(self.contexts) if all(self.contexts or ("",)) else frozenset()

    @property
    def num_contexts(self) -> int:
        """Number of different contexts."""
        return max(self.clusters, default=-1) + 1

    @property
    def bounds(self) -> tuple[float, float]:
        """Where the mean may be if all n contexts have the same: Clopper and Pearson's bounds of a share that is 1."""
        share, seen = ((1 - CONFIDENCE) / 2) ** (1 / self.num_contexts), fmean(self.scores)
        return share * seen + (1 - share) * self.least, share * seen + (1 - share)


def method(sample: ClusteredScores) -> str:
    """How intervals of these scores are made, in words."""
    over = f"{sample.num_contexts:,} contexts, each drawn with all of its examples"
    over = "examples" if sample.num_contexts == len(sample) else over
    if sample.scores and not sample.named_contexts:
        over = "examples, as nothing says which of them share a context"
    return (
        f"{CONFIDENCE:.0%} intervals: percentile bootstrap over {over}; {RESAMPLES:,} resamples, seeded; a mean of "
        "tasks resamples within each task, those about the same contexts together. Where all have one score, the "
        "interval says where the mean may be though no other was seen (Clopper-Pearson). They say how much the figures "
        f"depend on which examples were asked, nothing else. Over fewer than {_FEW} contexts they are too narrow."
    )


@dataclass(frozen=True)
class Estimate:
    """A mean and its interval.

    Args:
        low: lower end; NaN where one score, or one context, leaves nothing to resample, or most draws hold nothing of
            a small group.
        high: upper end, likewise.
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

    Groups that share contexts have these drawn once for all of them: the questions of LV-Eval's levels are no others
    at each, and a limited run may have asked some of them at one level only.

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
    draws = shares @ np.array(_drawn_together(samples))
    draws = draws[~np.isnan(draws)]  # others hold no context of a small group
    if len(draws) < RESAMPLES / 2:
        return Estimate(mean, float("nan"), float("nan"), num)
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    if np.ptp(draws) < _ROUNDING:
        low, high = shares @ [sample.bounds for sample in samples.values()]
    return Estimate(mean, float(low), float(high), num)


def _drawn_together(samples: Mapping[str, ClusteredScores]) -> list[NDArray[np.float64]]:
    """The means of each group's draws. Groups that share contexts draw together, seeded by the first one's name."""
    drawn = dict[str, NDArray[np.float64]]()
    for names in _sharing(samples):
        every = sorted(frozenset().union(*(samples[name].named_contexts for name in names)))
        pool, shared = {context: number for number, context in enumerate(every)}, len(names) > 1
        for name in names:
            sample = samples[name]
            clusters = tuple(pool[context] for context in sample.contexts) if shared else sample.clusters
            drawn[name] = _draws(sample.scores, clusters, len(pool) if shared else 0, names[0])
    return [drawn[name] for name in samples]


def _sharing(samples: Mapping[str, ClusteredScores]) -> list[list[str]]:
    """Names of groups that share contexts, perhaps through others."""
    found = list[tuple[list[str], frozenset[str]]]()
    for name, sample in samples.items():
        contexts = sample.named_contexts
        sharing = [part for part in found if part[1] & contexts]
        found = [part for part in found if part not in sharing]
        names = [member for members, _ in sharing for member in members]
        found.append(([*names, name], contexts.union(*(others for _, others in sharing))))
    return [names for names, _ in found]


@lru_cache(_REMEMBERED)
def _draws(scores: tuple[float, ...], clusters: tuple[int, ...], num: int, name: str) -> NDArray[np.float64]:
    """The mean of every draw from at least `num` contexts; NaN if none of the drawn ones has a score here."""
    sums, sizes = np.bincount(clusters, weights=scores, minlength=num), np.bincount(clusters, minlength=num)
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    rows = max(1, _BLOCK // len(sums))
    blocks = [min(rows, RESAMPLES - start) for start in range(0, RESAMPLES, rows)]
    chosen = (generator.integers(len(sums), size=(block, len(sums))) for block in blocks)
    # A drawn context brings all of its scores, so the mean is over as many as came along.
    with np.errstate(invalid="ignore"):
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
