"""The answers of one model to one benchmark, and their means; as JSON and back."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from math import isnan, nan
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar, TypeVar

from evaluation.reports.intervals import Means
from evaluation.reports.table import Section
from lit_longpo.files.stored import write_json

Key = TypeVar("Key", int, tuple[float, int], tuple[str, float, int])
Tables = Mapping[str, Mapping[str, float]]


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
        task: data set it belongs to; empty if the benchmark has only one.
        groups: what scores are broken down by, for example `{"difficulty": "hard"}`.
        num_tokens: tokens of the filled template, before truncation; 0 if not counted.
        num_lost: of them, cut out of the middle.
        context: what it was about: predictions with equal ones share a context.
    """

    id: str
    length: int
    depth: float | None
    question: str
    answers: tuple[str, ...]
    prediction: str
    score: float
    task: str = ""
    groups: Mapping[str, str] = field(default_factory=dict)
    num_tokens: int = 0
    num_lost: int = 0
    context: str = ""


@dataclass(frozen=True)
class TruncationCounts:
    """How many prompts of one task were cut, and how many tokens they lost.

    Args:
        num_examples: prompts of the task.
        num_cut: prompts that were cut.
        num_tokens: tokens of all prompts before.
        num_lost: tokens that were removed.
    """

    num_examples: int
    num_cut: int
    num_tokens: int
    num_lost: int

    @classmethod
    def of(cls, items: Sequence[Prediction]) -> "TruncationCounts":
        """What truncation did to the prompts of these."""
        lost = [item.num_lost for item in items]
        return cls(len(items), sum(map(bool, lost)), sum(item.num_tokens for item in items), sum(lost))

    def __str__(self) -> str:
        share = self.num_lost / self.num_tokens if self.num_tokens else 0.0
        return f"{self.num_cut} of {self.num_examples} cut, {self.num_lost:,} tokens lost ({share:.1%})"


class ReportRules:
    """The rules of a benchmark's reports: which predictions count, means, tables.

    A report finds them by its name, as one that was stored has nothing else: a class stands for its `name` and for
    `names`, if its reports can have several.
    """

    names: ClassVar[tuple[str, ...]] = ()
    change: ClassVar[str] = "Paired differences"
    left_out: ClassVar[str] = "responses do not count by the benchmark's rule and are left out of every mean"
    _of: ClassVar[dict[str, type["ReportRules"]]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        stated = (vars(cls).get("name"), *vars(cls).get("names", ()))
        ReportRules._of.update({name: cls for name in stated if isinstance(name, str)})

    @classmethod
    def counts(cls, prediction: "Prediction") -> bool:
        """Whether a prediction enters means and official numbers; by default all do."""
        return True

    @classmethod
    def means(cls, report: "BenchmarkReport") -> dict[str, Means]:
        """Means of official numbers by kind and name, for example of kind "level" that of "16k"; by default none."""
        return {}

    @classmethod
    def summary(cls, report: "BenchmarkReport") -> list[Section]:
        """Tables by the benchmark's own formulas; by default none.

        A mean that is defined over more than was run is left out or called by another name, and a note says what
        is missing.
        """
        return []


@dataclass(frozen=True)
class BenchmarkReport:
    """Scores of one model on one benchmark.

    Args:
        name: of the benchmark.
        step: optimizer steps the model had taken.
        predictions: every answered example.
        model: what was evaluated.
        protocol: whose rules were followed.
        deviations: where they were not, in words.
        tables: official numbers of each task, in percent, by the column's name.
        settings: of the run, for example `max_length`.
        notes: what always holds for the benchmark, in words.
    """

    name: str
    step: int
    predictions: tuple[Prediction, ...]
    model: str = ""
    protocol: str = ""
    deviations: tuple[str, ...] = ()
    tables: Tables = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def rules(self) -> type[ReportRules]:
        """What the benchmark of that name says; the plain rules if nobody has that name."""
        return ReportRules._of.get(self.name, ReportRules)

    @cached_property
    def counted(self) -> tuple[Prediction, ...]:
        """Predictions that enter means: LongBench v2 leaves empty responses out of every count."""
        return tuple(item for item in self.predictions if self.rules.counts(item))

    @property
    def mean(self) -> float:
        """Mean score of all predictions that count, 0 to 1; NaN if none does."""
        return fmean(item.score for item in self.counted) if self.counted else nan

    def by_length(self) -> dict[int, float]:
        """Mean score of each length, ascending."""
        return _means((item.length, item.score) for item in self.counted)

    def by_cell(self) -> dict[tuple[float, int], float]:
        """Mean score of each (depth, length); predictions without a depth are in no cell."""
        return _means(((item.depth, item.length), item.score) for item in self.counted if item.depth is not None)

    def all_by_task(self) -> dict[str, list[Prediction]]:
        """Every prediction, those that do not count too; a benchmark without tasks is one."""
        tasks: dict[str, list[Prediction]] = {}
        for item in self.predictions:
            tasks.setdefault(item.task or self.name, []).append(item)
        return tasks

    def truncation(self) -> dict[str, TruncationCounts]:
        """What truncation did to each task: samples cut, tokens lost."""
        return {task: TruncationCounts.of(items) for task, items in self.all_by_task().items()}

    @property
    def cut(self) -> str | None:
        """How many prompts lost how much, in words; `None` if none was cut."""
        whole = TruncationCounts.of(self.predictions)
        if not whole.num_cut:
            return None
        share = whole.num_lost / max(1, whole.num_tokens)
        return f"{whole.num_cut:,} of {whole.num_examples:,} prompts, {share:.1%} of all prompts' tokens"

    def save(self, path: Path, sections: Sequence[Mapping[str, object]] = ()) -> None:
        """Write as JSON; a mean of nothing, NaN, which JSON does not know, becomes null.

        Args:
            path: of the file; its folder is made if it is not there.
            sections: tables for readers of the file, as plain values; `load` passes over them.

        Raises:
            ValueError: a score or setting is not a finite number.
            TypeError: a setting is nothing that JSON knows.
        """
        scores = {"mean": _or_none(self.mean), "by_length": self.by_length(), "cells": self._cells()}
        tables = {task: {name: _or_none(value) for name, value in row.items()} for task, row in self.tables.items()}
        more = {"tables": tables, "scores": scores, "sections": list(sections)}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {**asdict(self), **more}, indent=1, ensure_ascii=False, allow_nan=False)

    def _cells(self) -> list[dict[str, object]]:
        """`by_cell` of each task."""
        means = _means(
            ((item.task or self.name, item.depth, item.length), item.score)
            for item in self.counted
            if item.depth is not None
        )
        return [
            {"task": task, "depth": depth, "length": length, "score": score}
            for (task, depth, length), score in means.items()
        ]

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "BenchmarkReport":
        """From plain values, as `dataclasses.asdict` gives them."""
        rows = [Prediction(**{**row, "answers": tuple(row["answers"])}) for row in data["predictions"]]
        known = {item.name: data[item.name] for item in fields(cls) if item.name in data}
        known["tables"] = with_nan(known.get("tables", {}))
        texts = {name: tuple(known.get(name, ())) for name in ("deviations", "notes")}
        return cls(**{**known, **texts, "predictions": tuple(rows)})


def _or_none(value: float) -> float | None:
    return None if isnan(value) else value


def with_nan(tables: Mapping[str, Mapping[str, float | None]]) -> Tables:
    """Tables as JSON has them, where a number of nothing is null."""
    return {
        task: {name: nan if value is None else value for name, value in row.items()} for task, row in tables.items()
    }


def _means(scores: Iterable[tuple[Key, float]]) -> dict[Key, float]:
    groups: dict[Key, list[float]] = {}
    for key, score in scores:
        groups.setdefault(key, []).append(score)
    return {key: fmean(groups[key]) for key in sorted(groups)}
