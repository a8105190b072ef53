"""Means and their bootstrap intervals. Seeded: the same scores always give the same interval."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
CONFIDENCE = 0.95
METHOD = (
    f"{CONFIDENCE:.0%} intervals: percentile bootstrap over examples, {RESAMPLES:,} resamples, seeded; a mean of tasks "
    "resamples within each task. They say how much the figures depend on which examples were asked, nothing else."
)
_BLOCK = 2_000_000  # drawn indices in memory at once
_REMEMBERED = 512  # draws of so many means: tables and figures of a report ask for the same ones; 8 MB


@dataclass(frozen=True)
class Estimate:
    """A mean and its interval.

    Args:
        mean: of the scores.
        low: lower end; NaN where one score leaves nothing to resample.
        high: upper end, likewise.
        num: scores.
    """

    mean: float
    low: float
    high: float
    num: int


def estimate(scores: Sequence[float], name: str = "") -> Estimate:
    """Mean of scores.

    Args:
        scores: at least one.
        name: draws of different names are independent.
    """
    return estimate_mean_of({name: scores})


def estimate_mean_of(groups: Mapping[str, Sequence[float]], weights: Mapping[str, float] | None = None) -> Estimate:
    """Mean of the groups' means, whatever their sizes.

    Args:
        groups: scores by name; at least one group, none empty.
        weights: of the groups, together 1; `None` means equal ones.
    """
    shares = np.array([1 / len(groups) if weights is None else weights[name] for name in groups])
    mean = float(shares @ [fmean(scores) for scores in groups.values()])
    num = sum(map(len, groups.values()))
    if any(len(scores) < 2 for scores in groups.values()):
        return Estimate(mean, float("nan"), float("nan"), num)
    draws = shares @ np.array([resampled_means(scores, name) for name, scores in groups.items()])
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(mean, float(low), float(high), num)


def resampled_means(scores: Sequence[float], name: str = "") -> NDArray[np.float64]:
    """Means of samples with replacement. Shape: (RESAMPLES,). The same array for the same arguments, not writable.

    Args:
        scores: the original sample.
        name: seeds the draws.
    """
    return _draws(tuple(scores), name)


@lru_cache(_REMEMBERED)
def _draws(scores: tuple[float, ...], name: str) -> NDArray[np.float64]:
    values = np.asarray(scores, dtype=np.float64)
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    rows = max(1, _BLOCK // len(values))
    blocks = [min(rows, RESAMPLES - start) for start in range(0, RESAMPLES, rows)]
    draws = [values[generator.integers(len(values), size=(block, len(values)))].mean(axis=1) for block in blocks]
    means = np.concatenate(draws)
    means.flags.writeable = False
    return means


@dataclass(frozen=True)
class Part:
    """One official number and the scores behind it.

    Args:
        value: percent, rounded as the benchmark rounds.
        scores: 0 to 1, at least one.
    """

    value: float
    scores: list[float]


@dataclass(frozen=True)
class Mean:
    """A mean of the rounded numbers, as published tables have it.

    Args:
        parts: what it is of, by name; at least one.
        weights: of the parts, together 1; `None` means equal ones.
    """

    parts: Mapping[str, Part]
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


def means_of(groups: Mapping[str, Mapping[str, Part]]) -> Means:
    """The mean of each group that has any part."""
    return {name: Mean(parts) for name, parts in groups.items() if parts}
