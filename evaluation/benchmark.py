"""What every benchmark asks: examples, their prompts and scores."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from evaluation.prompting import Prompt
from evaluation.reports.report import Prediction
from lit_longpo.policy import PromptFormat


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
    what readers of every report should know (see `evaluation.running.results.make_report`).
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
