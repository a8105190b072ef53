"""What every benchmark asks and produces: examples, predictions and a report."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from statistics import fmean
from typing import Protocol, TypeVar, runtime_checkable

from evaluation.prompting import Prompt
from evaluation.truncation import Truncation, truncation_report
from lit_longpo.policy import PromptFormat

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

    def answered(self, prediction: str, score: float) -> Prediction:
        """The row of the report; benchmarks of real texts know no depth."""
        return Prediction(
            *(self.id, self.length, None, self.question, self.answers, prediction, score),
            task=self.task,
            groups=self.groups,
        )


@runtime_checkable
class Benchmark(Protocol):
    """A benchmark read from its official files. Whoever runs it generates and keeps the predictions.

    For every example: `num_calls` times ask `prompt`, giving the responses so far as `earlier`, and
    generate. The last response is scored, or the first empty one, which ends the example. Responses come
    from `evaluation.prompting.decode`, which does not strip them: leading white space counts.
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
    """

    name: str
    step: int
    predictions: tuple[Prediction, ...]
    model: str = ""
    protocol: str = ""
    deviations: tuple[str, ...] = ()
    tables: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)

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

    def truncation(self) -> dict[str, Truncation]:
        """What truncation did to each task: samples cut, tokens lost."""
        tasks = dict.fromkeys(item.task for item in self.predictions)
        return truncation_report({task: [item for item in self.predictions if item.task == task] for task in tasks})

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
        known = {item.name: data[item.name] for item in fields(cls) if item.name in data}
        return cls(**{**known, "predictions": tuple(rows), "deviations": tuple(known.get("deviations", ()))})


def _means(items: Iterable[Prediction], key: Callable[[Prediction], Key]) -> dict[Key, float]:
    cells: dict[Key, list[float]] = {}
    for item in items:
        cells.setdefault(key(item), []).append(item.score)
    return {name: fmean(cells[name]) for name in sorted(cells)}
