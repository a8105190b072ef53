"""What every benchmark produces: predictions and a report."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import TypeVar

Key = TypeVar("Key", int, tuple[float, int])


@dataclass(frozen=True)
class Prediction:
    """One answered example.

    Args:
        id: unique in the report.
        length: tokens of the context that were asked for.
        depth: relative position of the needed facts, 0 to 1; `None` if it has none.
        question: what was asked.
        answers: accepted answers.
        prediction: generated text.
        score: 0 to 1.
    """

    id: str
    length: int
    depth: float | None
    question: str
    answers: tuple[str, ...]
    prediction: str
    score: float


@dataclass(frozen=True)
class BenchmarkReport:
    """Scores of one model on one benchmark.

    Args:
        name: of the benchmark.
        step: optimizer steps the model had taken.
        predictions: every answered example.
    """

    name: str
    step: int
    predictions: tuple[Prediction, ...]

    @property
    def mean(self) -> float:
        """Mean score over all examples, 0 to 1."""
        return fmean(item.score for item in self.predictions)

    def by_length(self) -> dict[int, float]:
        """Mean score of each length, ascending."""
        return _means(self.predictions, lambda item: item.length)

    def by_cell(self) -> dict[tuple[float, int], float]:
        """Mean score of each (depth, length)."""
        return _means(self.predictions, lambda item: (item.depth or 0.0, item.length))

    def save(self, path: Path) -> None:
        """Write as JSON."""
        cells = [
            {"depth": depth, "length": length, "score": score} for (depth, length), score in self.by_cell().items()
        ]
        scores = {"mean": self.mean, "by_length": self.by_length(), "cells": cells}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**asdict(self), "scores": scores}, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> "BenchmarkReport":
        """Read what `save` wrote."""
        data = json.loads(path.read_text())
        rows = [Prediction(**{**row, "answers": tuple(row["answers"])}) for row in data["predictions"]]
        return cls(data["name"], data["step"], tuple(rows))


def _means(items: Iterable[Prediction], key: Callable[[Prediction], Key]) -> dict[Key, float]:
    cells: dict[Key, list[float]] = {}
    for item in items:
        cells.setdefault(key(item), []).append(item.score)
    return {name: fmean(cells[name]) for name in sorted(cells)}
