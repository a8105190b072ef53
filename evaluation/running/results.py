"""Makes a report of the scores of all tasks, and says in it what deviates from a complete, official run."""

from collections.abc import Mapping
from typing import Any

from evaluation.benchmark import Benchmark
from evaluation.reports.comparable import SCORE
from evaluation.reports.report import BenchmarkReport
from evaluation.running.facts import CHAT, DEVIATIONS, IN_CHAT, OF_SERVER
from evaluation.running.protocols import chat_deviation
from evaluation.running.task_scores import TaskScores


def make_report(
    benchmark: Benchmark,
    scores: Mapping[str, TaskScores],
    *,
    step: int = 0,
    model: str = "",
    settings: Mapping[str, Any] | None = None,
) -> BenchmarkReport:
    """All tasks together; what is missing is said in the deviations."""
    said = _with_use_of_chat(settings or {}, scores)
    of_run = tuple(said.pop(DEVIATIONS, ()))
    used = any(part.in_chat for part in scores.values())
    if benchmark.score_name:
        said[SCORE] = benchmark.score_name
    whose = "the server's" if said.get(CHAT) == OF_SERVER else "the tokenizer's"
    more = chat_deviation(benchmark, model, used=used, whose=whose) if CHAT in said else ()
    return BenchmarkReport(
        benchmark.name,
        step,
        tuple(row for part in scores.values() for row in part.predictions),
        model=model,
        protocol=benchmark.protocol,
        deviations=(*benchmark.deviations, *of_run, *more, *_thoughts(scores), *_incomplete(benchmark, scores)),
        tables={task: dict(part.table) for task, part in scores.items() if part.table},
        settings=said,
        notes=(*benchmark.notes, *_at_limit(scores)),
    )


def _with_use_of_chat(settings: Mapping[str, Any], scores: Mapping[str, TaskScores]) -> dict[str, Any]:
    """Beside the chat template, in which tasks it was used."""
    plain = [task for task, part in scores.items() if part.predictions and not part.in_chat]
    said = dict[str, Any]()
    for name, value in settings.items():
        said[name] = value
        if name == CHAT and str(value).startswith("sha256"):
            said[IN_CHAT] = f"no prompt of {' '.join(plain)}" if plain else "every prompt"
    return said


def _thoughts(scores: Mapping[str, TaskScores]) -> tuple[str, ...]:
    """What official scripts, which score all that is generated, do not leave out."""
    left_out = {task: (part.num_thought, len(part.predictions)) for task, part in scores.items() if part.num_thought}
    cut_off = {task: (part.num_cut_off, part.num_thought) for task, part in scores.items() if part.num_cut_off}
    marked = {task: (num, len(part.predictions)) for task, part in scores.items() if (num := part.num_marked)}
    said = {
        "thoughts (<think>) are left out of answers before these are scored: {}": left_out,
        "still thinking when the tokens were over: {}; raise the answers' tokens, or switch thinking off": cut_off,
        "scored with text in marks that are not known, such as <answer>, at their beginning: {}": marked,
    }
    counted = {
        text: ", ".join(f"{task} {num} of {whole}" for task, (num, whole) in counts.items())
        for text, counts in said.items()
    }
    return tuple(text.format(names) for text, names in counted.items() if names)


def _at_limit(scores: Mapping[str, TaskScores]) -> tuple[str, ...]:
    """How many answers the model did not end itself; most of an untrained base's, which repeat themselves."""
    counts = [
        f"{task} {part.num_at_limit} of {len(part.predictions)}" for task, part in scores.items() if part.num_at_limit
    ]
    return (f"answers that the limit of tokens ended, not the model: {', '.join(counts)}",) if counts else ()


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
