"""Scores stored responses, task by task, by the benchmark's rules and without a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from evaluation.benchmark import Benchmark, Example
from evaluation.processes import rank, world_size
from evaluation.reports.report import Prediction
from evaluation.running.preflight import score_of
from evaluation.running.responses import Responses, StoredResponse
from evaluation.running.settings import RunSettings
from lit_longpo.errors import InputError
from lit_longpo.policy.prompts.thoughts import THINKS, unknown_marks


@dataclass(frozen=True)
class TaskScores:
    """One task's share of a report.

    Args:
        predictions: of the answered examples, in the official order.
        table: official numbers; empty if nothing is answered.
        num_chosen: examples that were to be answered.
        num_examples: examples that the task has.
        in_chat: whether all prompts were wrapped in the chat template.
        num_thought: answers that came behind thoughts, in any of their calls, which are left out.
        num_cut_off: of them, those that have nothing but thoughts.
        num_at_limit: answers that their limit of tokens ended.
    """

    predictions: tuple[Prediction, ...]
    table: Mapping[str, float] = field(default_factory=dict)
    num_chosen: int = 0
    num_examples: int = 0
    in_chat: bool = False
    num_thought: int = 0
    num_cut_off: int = 0
    num_at_limit: int = 0

    @property
    def num_marked(self) -> int:
        """Answers that begin with text in marks that may or may not be those of thoughts."""
        return sum(unknown_marks(item.prediction) is not None for item in self.predictions)


def is_done(rows: Sequence[StoredResponse], num_calls: int) -> bool:
    """Whether an example needs no further call; an empty response, or one of thoughts alone, ends it early."""
    return len(rows) == num_calls or bool(rows and not rows[-1].answer)


class AnswerScores(Metric):
    """The score of every answer of a task: each process gives those of its share, `compute` knows all of them.

    States, shape (num_answers,): `scores`, and `times`, how often an answer was scored; zero where another process
    does it, so that the sum over processes is exact.

    Args:
        num_answers: of the task, on all processes together.
        **options: torchmetrics' own.
    """

    full_state_update = False
    scores: Tensor
    times: Tensor

    def __init__(self, num_answers: int, **options: Any) -> None:
        super().__init__(**options)
        self.add_state("scores", torch.zeros(num_answers, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("times", torch.zeros(num_answers, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, numbers: Sequence[int], scores: Sequence[float]) -> None:
        """Add the scores of answers by their numbers, none of which any process adds again."""
        index = torch.tensor(numbers, dtype=torch.int64, device=self.scores.device)
        self.scores.index_add_(0, index, self.scores.new_tensor(scores))
        self.times.index_add_(0, index, torch.ones_like(index))

    def compute(self) -> Tensor:
        """Scores in the order of the answers. Shape: (num_answers,)."""
        assert (self.times == 1).all(), "every answer is scored once, by one process"
        return self.scores


def score_task(
    benchmark: Benchmark,
    examples: Sequence[Example],
    responses: Responses,
    num_examples: int,
    device: torch.device | str = "cpu",
) -> TaskScores:
    """Official scores of what is answered; every answer is scored once, by one of the processes.

    Args:
        benchmark: whose rules count.
        examples: that were to be answered.
        responses: to them, on every process alike.
        num_examples: that the task has.
        device: on which processes exchange scores.
    """
    answered = [(example, responses.of_example(example)) for example in examples]
    done = [(example, rows) for example, rows in answered if is_done(rows, benchmark.num_calls)]
    if not done:
        return TaskScores((), num_chosen=len(examples), num_examples=num_examples)
    answers = [(example, _scored_text(benchmark, example, rows[-1])) for example, rows in done]
    predictions = tuple(
        benchmark.placed(_prediction(example, rows, said, score))
        for (example, rows), (_, said), score in zip(done, answers, _scores(benchmark, answers, device), strict=True)
    )
    thought = [rows[-1] for _, rows in done if any(row.has_thoughts for row in rows)]
    return TaskScores(
        predictions,
        benchmark.table([item for item in predictions if benchmark.counts(item)]),
        num_chosen=len(examples),
        num_examples=num_examples,
        in_chat=all(row.in_chat for _, rows in done for row in rows),
        num_thought=len(thought),
        num_cut_off=sum(row.has_thoughts and not row.answer for row in thought),
        num_at_limit=sum(rows[-1].at_limit for _, rows in done),
    )


def _scored_text(benchmark: Benchmark, example: Example, row: StoredResponse) -> str:
    """The text to score: the answer, or a mark of cut-off thoughts if an empty answer would not be counted."""
    answer = row.answer
    if answer or not row.response or benchmark.counts(example.answered("", 0.0)):
        return answer
    return THINKS


def _scores(benchmark: Benchmark, answers: Sequence[tuple[Example, str]], device: torch.device | str) -> list[float]:
    """Scores of all answers; each process takes every `world_size`-th one."""
    numbers = range(rank(), len(answers), world_size())
    metric = AnswerScores(len(answers)).to(device)
    metric.update(numbers, [score_of(benchmark, *answers[number]) for number in numbers])
    return list(torch.atleast_1d(metric.compute()).tolist())  # a metric gives a single value without its dimension


def rescore(benchmark: Benchmark, responses: Responses, settings: RunSettings) -> dict[str, TaskScores]:
    """Scores of stored responses, by task; tasks without any are left out.

    Raises:
        InputError: responses to records that the benchmark does not have.
    """
    scores = {}
    for task in settings.chosen(benchmark):
        stored = {row.id for row in responses.of_task(task)}
        every = list(benchmark.examples(task)) if stored else []
        if others := sorted(stored - {example.id for example in every}):
            raise InputError(
                f"expected stored responses to the records of {task}, got {len(others)} to others, for example "
                f"{others[0]}; name the data that were asked"
            )
        if stored:
            scores[task] = score_task(benchmark, [item for item in every if item.id in stored], responses, len(every))
            responses.forget(task)
    return scores


def _prediction(example: Example, rows: Sequence[StoredResponse], said: str, score: float) -> Prediction:
    answered = example.answered(said, score)
    return replace(answered, num_tokens=rows[0].num_tokens, num_lost=rows[0].num_lost)  # the call with the document
