"""How hard preference pairs are for a model that was not trained on them: shares and histograms of margins."""

from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise
from statistics import median_high
from typing import Any

_EASY = 0.95  # above this share of pairs that are ranked right already, there is little left to prefer
_EDGES = (-16.0, -8.0, -4.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


@dataclass(frozen=True)
class Difficulty:
    """By how much a model prefers chosen answers before it is trained.

    Args:
        margins: chosen minus rejected, one for each pair; a margin of 0 is not ranked right.
        measure: what is compared, and in which unit.
    """

    margins: tuple[float, ...]
    measure: str

    @property
    def ranked_right(self) -> float:
        """Share of pairs whose chosen answer the model prefers already."""
        return sum(margin > 0 for margin in self.margins) / len(self.margins)

    @property
    def median_margin(self) -> float:
        """The median; of an even number of margins the higher one of the two in the middle."""
        return median_high(self.margins)

    @property
    def is_easy(self) -> bool:
        """Whether the model ranks nearly all of them right already."""
        return self.ranked_right > _EASY

    def histogram(self) -> dict[str, int]:
        """Pairs by margin, from the lowest range that holds one to the highest; the upper edge belongs to a range."""
        counts = [0] * (len(_EDGES) + 1)
        for margin in self.margins:
            counts[bisect_left(_EDGES, margin)] += 1
        names = [f"<= {_EDGES[0]:g}", *(f"{low:g} .. {high:g}" for low, high in pairwise(_EDGES))]
        names.append(f"> {_EDGES[-1]:g}")
        held = [number for number, count in enumerate(counts) if count]
        return {names[number]: counts[number] for number in range(held[0], held[-1] + 1)}

    def as_json(self) -> dict[str, Any]:
        """The numbers for `data_report.json` and other reports."""
        return {
            "pairs": len(self.margins),
            "ranked_right": self.ranked_right,
            "measure": self.measure,
            "median_margin": self.median_margin,
            "margins": self.histogram(),
        }
