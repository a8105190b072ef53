"""From stored responses to a report: needs the benchmark's records and no model."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from evaluation.benchmark import Benchmark, Example
from evaluation.reports.report import BenchmarkReport, Prediction
from evaluation.running.responses import Response, Responses
from evaluation.running.settings import RunSettings


@dataclass(frozen=True)
class TaskScores:
    """One task's share of a report.

    Args:
        predictions: of the answered examples, in the official order.
        table: official numbers; empty if nothing is answered.
        num_chosen: examples that were to be answered.
        num_examples: examples that the task has.
    """

    predictions: tuple[Prediction, ...]
    table: Mapping[str, float] = field(default_factory=dict)
    num_chosen: int = 0
    num_examples: int = 0


def subset(examples: Iterable[Example], task: str, settings: RunSettings) -> tuple[list[Example], int]:
    """The examples to answer, in the official order, and how many there are in all."""
    every = list(examples)
    if settings.limit is None or settings.limit >= len(every):
        return every, len(every)
    order = list(range(len(every)))
    random.Random(f"{settings.seed}-{task}").shuffle(order)
    return [every[number] for number in sorted(order[: settings.limit])], len(every)


def is_done(rows: Sequence[Response], num_calls: int) -> bool:
    """Whether an example needs no further call: an empty response ends it."""
    return len(rows) == num_calls or bool(rows and not rows[-1].response)


def score_task(
    benchmark: Benchmark, examples: Sequence[Example], responses: Responses, num_examples: int
) -> TaskScores:
    """Official scores of what is answered."""
    answered = [(example, responses.of_example(example)) for example in examples]
    done = [(example, rows) for example, rows in answered if is_done(rows, benchmark.num_calls)]
    if not done:
        return TaskScores((), {}, len(examples), num_examples)
    predictions = tuple(_prediction(benchmark, example, rows) for example, rows in done)
    table = benchmark.table([item for item in predictions if benchmark.counts(item)])
    return TaskScores(predictions, table, len(examples), num_examples)


def rescore(benchmark: Benchmark, responses: Responses, settings: RunSettings) -> dict[str, TaskScores]:
    """Scores of stored responses, by task; tasks without any are left out.

    Raises:
        ValueError: responses to records that the benchmark does not have.
    """
    scores = {}
    for task in settings.chosen(benchmark):
        stored = {row.id for row in responses.of_task(task)}
        every = list(benchmark.examples(task)) if stored else []
        if strangers := sorted(stored - {example.id for example in every}):
            raise ValueError(
                f"expected stored responses to records of {task}, got {len(strangers)} to others, for example "
                f"{strangers[0]}; read the data with which they were made"
            )
        if stored:
            scores[task] = score_task(benchmark, [item for item in every if item.id in stored], responses, len(every))
            responses.forget(task)
    return scores


def make_report(
    benchmark: Benchmark,
    scores: Mapping[str, TaskScores],
    *,
    step: int = 0,
    model: str = "",
    settings: Mapping[str, object] | None = None,
) -> BenchmarkReport:
    """All tasks together; what is missing is said in the deviations."""
    return BenchmarkReport(
        benchmark.name,
        step,
        tuple(row for part in scores.values() for row in part.predictions),
        model=model,
        protocol=benchmark.protocol,
        deviations=(*benchmark.deviations, *_incomplete(benchmark, scores)),
        tables={task: dict(part.table) for task, part in scores.items() if part.table},
        settings=dict(settings or {}),
        notes=tuple(benchmark.notes),
    )


def _prediction(benchmark: Benchmark, example: Example, rows: Sequence[Response]) -> Prediction:
    text = rows[-1].response
    answered = example.answered(text, benchmark.score(example, text))
    return replace(answered, num_tokens=rows[0].num_tokens, num_lost=rows[0].num_lost)  # the call with the document


def _incomplete(benchmark: Benchmark, scores: Mapping[str, TaskScores]) -> tuple[str, ...]:
    """What is missing: tasks, records of the official files, chosen examples, answers."""
    official = benchmark.official_counts
    records = {task: (part.num_examples, official.get(task, part.num_examples)) for task, part in scores.items()}
    chosen = {task: (part.num_chosen, part.num_examples) for task, part in scores.items()}
    answered = {task: (len(part.predictions), part.num_chosen) for task, part in scores.items()}
    lacking = {
        "tasks not run: {}": [task for task in benchmark.tasks if task not in scores],
        "records: {} official ones": _unequal(records),
        "a subset of the examples: {}": _unequal(chosen),
        "not all of them answered: {}": _unequal(answered),
    }
    return tuple(text.format(", ".join(names)) for text, names in lacking.items() if names)


def _unequal(pairs: Mapping[str, tuple[int, int]]) -> list[str]:
    return [f"{task} {num} of {whole}" for task, (num, whole) in pairs.items() if num != whole]
