"""Settings of a benchmark's run, the same for the command line and for callbacks."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from evaluation.benchmark import Benchmark
from evaluation.benchmarks.task_names import elsewhere
from evaluation.running.batching import Batching
from lit_longpo.errors import InputError
from lit_longpo.policy import PromptFormat
from lit_longpo.ranges import MOST, MOST_TOKENS, check_numbers, check_range

SLACK = 64  # a cut prompt grows by a few tokens when its text is encoded again


@dataclass(frozen=True)
class RunSettings:
    """Which examples are run, how long their prompts are, and for how much time.

    Args:
        tasks: of the benchmark; `None` means all.
        limit: examples of each task at most, a random subset; a larger limit adds to a smaller one.
        seed: of the subset.
        max_length: tokens of a prompt at most, before the chat template; longer ones are cut in the middle. `None`
            means the benchmark's official number, or what the model's window leaves after the longest answer and the
            chat template (see `default_max_length`).
        max_minutes: stop after this time, between batches. Each task gets the same share of the remaining time, and so
            does each call of a task. Examples are taken in a random order, by `seed`.
        batching: which prompts share a forward.
        protocol: "served" takes the most likely tokens up to the end of the turn. "official" does what the benchmark's
            own script does, with the repetition penalty of the model's generation settings and its own end tokens only.

    Raises:
        InputError: a number below what makes sense, or no task.
    """

    tasks: list[str] | None = None
    limit: int | None = None
    seed: int = 0
    max_length: int | None = None
    max_minutes: float | None = None
    batching: Batching = field(default_factory=Batching)
    protocol: Literal["served", "official"] = "served"

    def __post_init__(self) -> None:
        if self.tasks is not None and not self.tasks:
            raise InputError("expected names in `tasks`, got none; name some, or leave it out for all there are")
        check_numbers(self, "", limit=(1, MOST_TOKENS), max_length=(1, MOST_TOKENS))
        if self.max_minutes is not None:
            check_range("max_minutes", self.max_minutes, "raise it or leave it out", above=0, at_most=MOST)

    def chosen(self, benchmark: Benchmark) -> tuple[str, ...]:
        """The tasks to run, in the benchmark's order.

        Raises:
            InputError: an unknown task, or none.
        """
        unknown = [task for task in self.tasks or () if task not in benchmark.tasks]
        if unknown:
            raise InputError(
                f"expected tasks of {benchmark.name} that have data: {', '.join(benchmark.tasks)}; got "
                f"{', '.join(unknown)}; correct `tasks`{elsewhere(unknown, benchmark.tasks)}"
            )
        tasks = tuple(task for task in benchmark.tasks if self.tasks is None or task in self.tasks)
        if not tasks:
            raise InputError(
                f"expected tasks of {benchmark.name}, got none; name some in its own `tasks`, or leave that out for all"
            )
        return tasks

    def length(self, benchmark: Benchmark, window: int | None, prompt_format: PromptFormat) -> int:
        """`max_length`, or what is left of the model's window."""
        if self.max_length is not None:
            return self.max_length
        return default_max_length(benchmark, self.chosen(benchmark), prompt_format, window)


def default_max_length(
    benchmark: Benchmark, tasks: Sequence[str], prompt_format: PromptFormat, window: int | None
) -> int:
    """The official length, if the window has room for it, the longest answer, the chat template and some slack.

    The whole window where contexts are made for lengths that count the answer (`fills_length`).
    Elsewhere what the window leaves: at most the window minus 500, or minus an eighth of a small window. In tokens, as
    the window is.

    Raises:
        InputError: the window is unknown or too small for the answers.
    """
    if window is None:
        raise InputError("the model's configuration does not state its window; set `max_length`")
    if benchmark.fills_length:
        return window
    room = max(_room(benchmark, task, prompt_format) for task in tasks)
    length = window - max(room + SLACK, min(500, window // 8))
    official = benchmark.official_length(window)
    if official is not None and official <= window - room - SLACK:
        return official
    if length < 2:
        raise InputError(
            f"expected a window with room for {room} tokens of answer and chat template, got {window} positions; "
            "lower the benchmark's `max_new_tokens`, if it has them, or leave out the tasks with the longest answers, "
            "with `tasks`"
        )
    return length


def length_deviation(benchmark: Benchmark, max_length: int, window: int | None) -> tuple[str, ...]:
    """That prompts are cut to another length than official runs cut them to for this window; nothing if not."""
    official = None if window is None else benchmark.official_length(window)
    if official is None or official == max_length:
        return ()
    return (f"prompts cut to {max_length:,} tokens, in official runs to {official:,}",)


def _room(benchmark: Benchmark, task: str, prompt_format: PromptFormat) -> int:
    """New tokens and chat template of a task's first call."""
    first = next(iter(benchmark.examples(task)), None)
    if first is None:
        return 0
    prompt = benchmark.prompt(first, prompt_format, sys.maxsize)
    return prompt.max_new_tokens + len(prompt.ids) - prompt.num_tokens
