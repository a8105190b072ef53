"""How long a prompt may be, if nobody says so."""

from collections.abc import Sequence
from dataclasses import replace

from evaluation.benchmark import Benchmark
from lit_longpo.policy import PromptFormat

SLACK = 64  # a cut prompt grows by a few tokens when its text is encoded again


def default_max_length(
    benchmark: Benchmark, tasks: Sequence[str], prompt_format: PromptFormat, window: int | None
) -> int:
    """The window without the longest answer, the chat template and some slack.

    At most the window minus 500, as LongBench and LV-Eval advise, or minus an eighth of a small window.

    Args:
        benchmark: what is asked.
        tasks: of it.
        prompt_format: tokenizer and chat template.
        window: positions that the model can read.

    Raises:
        ValueError: the window is unknown or too small for the answers.
    """
    if window is None:
        raise ValueError("the model's configuration does not state its window; set `max_length`")
    room = max(_room(benchmark, task, prompt_format) for task in tasks)
    length = window - max(room + SLACK, min(500, window // 8))
    if length < 2:
        raise ValueError(
            f"expected a window with room for {room} tokens of answer and chat template, got {window} positions; "
            "leave out the tasks with the longest answers, with `tasks`"
        )
    return length


def _room(benchmark: Benchmark, task: str, prompt_format: PromptFormat) -> int:
    """New tokens and chat template of a task's first call, measured with an empty record."""
    first = next(iter(benchmark.examples(task)), None)
    if first is None:
        return 0
    empty = replace(first, fields=dict.fromkeys(first.fields, ""))
    prompt = benchmark.prompt(empty, prompt_format, 10**9)
    return prompt.max_new_tokens + len(prompt.ids) - prompt.num_tokens
