"""What every benchmark asks and produces: examples, predictions and a report."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from math import isnan, nan
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol, TypeVar, runtime_checkable

from evaluation.prompting import Prompt
from evaluation.truncation import Truncation, truncation_report
from lit_longpo.policy import PromptFormat

Key = TypeVar("Key", int, tuple[float, int], tuple[str, float, int])
Tables = Mapping[str, Mapping[str, float]]
_JSON: dict[str, Any] = {"indent": 1, "ensure_ascii": False, "allow_nan": False}


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


# Predictions that enter a benchmark's means; all of them where nothing is said.
_COUNTED: Mapping[str, Callable[[Prediction], bool]] = {"longbench_v2": lambda item: bool(item.prediction)}


@dataclass(frozen=True)
class Example:
    """One question of a benchmark, before any token exists.

    Args:
        id: unique in the benchmark.
        task: file it belongs to, for example "hotpotqa" or "cmrc_mixup_16k".
        length: size of its context, in the benchmark's own unit.
        question: what is asked.
        answers: accepted answers; a letter in LongBench v2.
        fields: texts that the prompt template fills in.
        groups: what scores are broken down by, for example `{"difficulty": "hard"}`.
        all_classes: class names of a classification.
        answer_keywords: LV-Eval's keywords.
        depth: relative position of the needed facts, 0 to 1; `None` if it has none, as real texts.
    """

    id: str
    task: str
    length: int
    question: str
    answers: tuple[str, ...]
    fields: Mapping[str, str]
    groups: Mapping[str, str] = field(default_factory=dict)
    all_classes: tuple[str, ...] | None = None
    answer_keywords: str | None = None
    depth: float | None = None

    def answered(self, prediction: str, score: float) -> Prediction:
        """The row of the report."""
        return Prediction(
            *(self.id, self.length, self.depth, self.question, self.answers, prediction, score),
            task=self.task,
            groups=self.groups,
        )


@runtime_checkable
class Benchmark(Protocol):
    """A benchmark read from its official files. Whoever runs it generates and keeps the predictions.

    For every example: `num_calls` times ask `prompt`, giving the responses so far as `earlier`, and
    generate. The last response is scored, or the first empty one, which ends the example. Responses come
    from `evaluation.prompting.decode`, which does not strip them: leading white space counts.

    Two members are optional: `official_counts`, the records of each task in the official files, and `notes`,
    what readers of every report should know (see `evaluation.scoring.make_report`).
    """

    @property
    def name(self) -> str:
        """Of the report and in TensorBoard."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """What `examples` can be asked for."""

    @property
    def num_calls(self) -> int:
        """Generations for each example."""

    @property
    def protocol(self) -> str:
        """Whose rules are followed: repository and commit."""

    @property
    def deviations(self) -> tuple[str, ...]:
        """What is not official about this copy, in words; empty if nothing."""

    @property
    def settings(self) -> Mapping[str, object]:
        """What prompts depend on beside records and model: options, hashes of template files."""

    def examples(self, task: str) -> Iterator[Example]:
        """Examples of a task, in the file's order."""

    def prompt(
        self,
        example: Example,
        prompt_format: PromptFormat,
        max_length: int,
        *,
        window: int | None = None,
        earlier: Sequence[str] = (),
    ) -> Prompt:
        """What the model reads, cut to `max_length` tokens before the chat template."""

    def score(self, example: Example, prediction: str) -> float:
        """Official score of one response, 0 to 1."""

    def table(self, examples: Sequence[Example], predictions: Sequence[str]) -> dict[str, float]:
        """Official numbers of one task, in percent and rounded, by the column's name."""


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
    def counted(self) -> tuple[Prediction, ...]:
        """Predictions that enter means: LongBench v2 leaves empty responses out of every count."""
        keep = _COUNTED.get(self.name)
        return tuple(item for item in self.predictions if keep is None or keep(item))

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

    def truncation(self) -> dict[str, Truncation]:
        """What truncation did to each task: samples cut, tokens lost."""
        tasks = dict.fromkeys(item.task for item in self.predictions)
        return truncation_report({task: [item for item in self.predictions if item.task == task] for task in tasks})

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
        more = {"tables": _without_nan(self.tables), "scores": scores, "sections": list(sections)}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**asdict(self), **more}, **_JSON) + "\n", encoding="utf-8")

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
    def load(cls, path: Path) -> "BenchmarkReport":
        """Read what `save` wrote."""
        return cls.of(json.loads(path.read_text(encoding="utf-8")))

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "BenchmarkReport":
        """From plain values, as `dataclasses.asdict` gives them."""
        rows = [Prediction(**{**row, "answers": tuple(row["answers"])}) for row in data["predictions"]]
        known = {item.name: data[item.name] for item in fields(cls) if item.name in data}
        known["tables"] = _with_nan(known.get("tables", {}))
        texts = {name: tuple(known.get(name, ())) for name in ("deviations", "notes")}
        return cls(**{**known, **texts, "predictions": tuple(rows)})


def _without_nan(tables: Tables) -> dict[str, dict[str, float | None]]:
    return {task: {name: _or_none(value) for name, value in row.items()} for task, row in tables.items()}


def _or_none(value: float) -> float | None:
    return None if isnan(value) else value


def _with_nan(tables: Mapping[str, Mapping[str, float | None]]) -> Tables:
    return {
        task: {name: nan if value is None else value for name, value in row.items()} for task, row in tables.items()
    }


def _means(scores: Iterable[tuple[Key, float]]) -> dict[Key, float]:
    groups: dict[Key, list[float]] = {}
    for key, score in scores:
        groups.setdefault(key, []).append(score)
    return {key: fmean(groups[key]) for key in sorted(groups)}
