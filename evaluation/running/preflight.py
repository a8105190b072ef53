"""What would go wrong after hours of answers, asked before the first one: records, packages, lengths."""

from collections.abc import Callable, Iterable, Sequence

from evaluation.benchmark import Benchmark, Example
from evaluation.prompting import Prompt

Ask = Callable[[Example, list[str]], Prompt]


def longest_examples(benchmark: Benchmark, tasks: Sequence[str]) -> list[Example]:
    """The longest examples of each task by their texts and by their stated length, once every record has been read.

    Args:
        benchmark: what is asked.
        tasks: of it.

    Raises:
        FileNotFoundError, ValueError: a record of any task cannot be read.
        ModuleNotFoundError: a score needs a package that is not installed, jieba for Chinese answers.
    """
    found = []
    for task in tasks:
        largest, longest = None, None
        for example in benchmark.examples(task):
            largest = example if largest is None else max(largest, example, key=_size)
            longest = example if longest is None else max(longest, example, key=_length)
        if largest is not None and longest is not None:
            benchmark.score(largest, "text")
            found += [largest] if longest.id == largest.id else [largest, longest]
    return found


def check_prompts(examples: Iterable[Example], ask: Ask, num_calls: int) -> None:
    """Build every call's prompt of some examples.

    Args:
        examples: the longest ones.
        ask: gives the prompt of an example and its responses so far.
        num_calls: of each example.

    Raises:
        ValueError: a prompt and its answer do not fit the model's window.
    """
    for example in examples:
        for call in range(num_calls):
            ask(example, ["text"] * call)


def _size(example: Example) -> int:
    return sum(map(len, example.fields.values()))


def _length(example: Example) -> int:
    return example.length
