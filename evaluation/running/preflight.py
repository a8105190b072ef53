"""Finds before the first answer what would go wrong hours later: records, packages, lengths."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from numbers import Real

from evaluation.benchmark import Benchmark, Example
from evaluation.prompting import Prompt
from evaluation.running.settings import RunSettings
from lit_longpo.errors import InputError, InputTypeError
from lit_longpo.policy import PromptFormat

Ask = Callable[[Example, list[str]], Prompt]
_ANSWER = "text"
_ROUNDING = 1e-9


def extreme_examples(benchmark: Benchmark, tasks: Sequence[str]) -> list[Example]:
    """The longest examples of each task, by text and by stated length, and the shortest, where facts may not fit.

    Every record has been read then, and what a report asks of the benchmark has been asked once.

    Raises:
        MissingFileError, InputError: a record of any task cannot be read, or an id comes twice: answers are kept by
            id, so that the second record would get the answer to the first.
        MissingPackageError: a score needs a package that is not installed, jieba for Chinese answers.
    """
    found = list[Example]()
    for task in tasks:
        largest, longest, shortest = None, None, None
        for example in each_id_once(benchmark.examples(task), task):
            largest = example if largest is None else max(largest, example, key=_size)
            longest = example if longest is None else max(longest, example, key=_length)
            shortest = example if shortest is None else min(shortest, example, key=_length)
        if largest is not None and longest is not None and shortest is not None:
            _report_on(benchmark, largest)
            found += {example.id: example for example in (largest, longest, shortest)}.values()
    return found


def _report_on(benchmark: Benchmark, example: Example) -> None:
    """Score an answer and make its report, so that what is missing in a benchmark of one's own shows at once."""
    row = benchmark.placed(example.answered(_ANSWER, score_of(benchmark, example, _ANSWER)))
    benchmark.table([row] if benchmark.counts(row) else [])
    _ = benchmark.deviations, benchmark.official_counts


def score_of(benchmark: Benchmark, example: Example, prediction: str) -> float:
    """The benchmark's score, which must lie between 0 and 1: a percentage would be read as a hundred times as much.

    Raises:
        InputError: it is not between 0 and 1.
    """
    score = benchmark.score(example, prediction)
    if not isinstance(score, Real) or not -_ROUNDING <= score <= 1 + _ROUNDING:
        raise InputError(
            f"expected scores of 0 to 1 from {type(benchmark).__name__}.score, got {score!r} for {example.id}; correct "
            "it and type the same command again: answers that are stored stay"
        )
    return score


def each_id_once(examples: Iterable[Example], task: str) -> Iterator[Example]:
    """The examples, refused if an id comes twice: answers are stored by id, and the second would get the first's.

    Raises:
        InputError: an id comes twice.
        InputTypeError: a text stands for several answers, of which each letter would be one.
    """
    ids = set[str]()
    for example in examples:
        if isinstance(example.answers, str):
            raise InputTypeError(
                f"expected `answers` of {example.id} in {task} to be a tuple of texts, got the text "
                f"{example.answers!r:.60}; write (text,)"
            )
        if example.id in ids:
            raise InputError(
                f"expected each id once among the records of {task}, got {example.id!r} twice; give one of the two "
                "another in the file that they are read from"
            )
        ids.add(example.id)
        yield example


def check_prompts(examples: Iterable[Example], ask: Ask, num_calls: int) -> None:
    """Build every call's prompt of some examples.

    Args:
        examples: the longest ones and the shortest.
        ask: gives the prompt of an example and its responses so far.
        num_calls: of each example.

    Raises:
        InputError: a prompt and its answer do not fit the model's window.
    """
    for example in examples:
        for call in range(num_calls):
            ask(example, ["text"] * call)


def check_lengths(
    benchmark: Benchmark,
    settings: RunSettings,
    prompt_format: PromptFormat,
    positions: int | None,
    examples: Iterable[Example],
) -> None:
    """Build prompts with a tokenizer alone: what is wrong with them is said before a model is loaded or trained.

    Raises:
        InputError: a prompt cannot be made, or does not fit the model's window.
    """
    length = settings.length(benchmark, positions, prompt_format)

    def ask(example: Example, earlier: list[str]) -> Prompt:
        return benchmark.prompt(example, prompt_format, length, window=positions, earlier=earlier)

    check_prompts(examples, ask, benchmark.num_calls)


def _size(example: Example) -> int:
    return sum(map(len, example.fields.values()))


def _length(example: Example) -> int:
    return example.length
