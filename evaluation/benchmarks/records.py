"""Benchmarks whose records lie in files that the user names: one file, or a folder of them."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from evaluation.benchmark import Benchmark, Example
from evaluation.benchmarks.official_files import OfficialFileError, Row
from evaluation.metrics.longbench import total
from evaluation.reports.report import Prediction
from lit_longpo.errors import InputError, MissingFileError
from lit_longpo.files.folders import files_in, nearby
from lit_longpo.files.json_files import json_lines, json_list
from lit_longpo.files.parquet_files import parquet_rows
from lit_longpo.ranges import MOST_ANSWERED, MOST_TOKENS, check_numbers

_SUFFIXES = (".jsonl", ".json", ".parquet")
_SHOWN = 300  # last characters of a whole prompt that reports show as its question


def record_files(path: str | Path) -> list[Path]:
    """The file, or all of a folder, in the order of their names.

    Raises:
        MissingFileError: there is none.
    """
    root = Path(path)
    inside = files_in(root)
    files = inside if root.is_file() else [item for item in inside if item.suffix.lower() in _SUFFIXES]
    if not files:
        raise MissingFileError(
            f"expected records ({', '.join(_SUFFIXES)}) at {str(root.absolute())!r}, found none; set --benchmark.path "
            f"to the file or folder that was downloaded{nearby(root)}"
        )
    return files


def read_file(path: Path) -> Iterator[Row]:
    """Records of a file: Parquet, JSON Lines, or one JSON list.

    Raises:
        InputError: it is none of these, or a record is no object.
    """
    kind = path.suffix.lower()
    if kind == ".parquet":
        for number, values in enumerate(parquet_rows(path), 1):
            yield Row(f"{path}: record {number}", values)
        return
    for where, value in json_lines(path) if kind == ".jsonl" else json_list(path):
        if not isinstance(value, dict):
            raise OfficialFileError.at(where, "record", "a JSON object", value)
        yield Row(where, value)


class RecordBenchmark(Benchmark):
    """Records of one or several files, each of which names its task; held in memory.

    A subclass says which tasks there are and turns a record into an example (`example`); it may leave some out, with a
    reason. `tasks` are those that have a record that is not left out. A length is that of the prompt in characters,
    and in a report the power of two that holds its tokens.

    Attributes:
        known_tasks: of the benchmark, in its order.
        num_official: records of all official files together; others become a deviation. `None`: there are none such.

    Args:
        path: file (`.jsonl`, `.json`, `.parquet`), or folder of such files.

    Raises:
        MissingFileError: there is no such file.
        InputError: a record is malformed; the message names file, line and field. Or none is left.
    """

    known_tasks: tuple[str, ...]
    num_official: int | None = None

    def __init__(self, path: str) -> None:
        self.path = path
        self._by_task: dict[str, list[Example]] = {}
        self._left_out, self._ids = Counter[str](), set[str]()
        for file in record_files(path):
            for number, row in enumerate(read_file(file), 1):
                self._add(row, f"{file.stem}-{number}")
        self.tasks = tuple(task for task in self.known_tasks if task in self._by_task)
        if not self.tasks:
            reasons = ", ".join(self._left_out) or "no records"
            raise InputError(
                f"expected records of {self.name} in {path}, got none to ask ({reasons}); name other files"
            )

    def _add(self, row: Row, name: str) -> None:
        example = self.example(row, name)
        if reason := self.leaves_out(example):
            self._left_out[reason] += 1
            return
        example = replace(example, id=f"{example.task}/{example.id}")
        if example.id in self._ids:
            raise row.error("id", "one that no other record has, in any of the files", example.id)
        self._ids.add(example.id)
        self._by_task.setdefault(example.task, []).append(example)

    @abstractmethod
    def example(self, row: Row, name: str) -> Example:
        """The example of a record; its id, unique among those of its task, is `name` where the record has none."""

    def leaves_out(self, example: Example) -> str:
        """Why an example is not asked, in words for the report; empty if it is."""
        return ""

    @property
    def deviations(self) -> tuple[str, ...]:
        """Records that are not there, and those that are not asked, by reason."""
        num_read = sum(map(len, self._by_task.values())) + self._left_out.total()
        left_out = tuple(f"{number:,} records not asked: {reason}" for reason, number in self._left_out.items())
        if self.num_official in (None, num_read):
            return left_out
        return (f"{num_read:,} records, {self.num_official:,} in the official files", *left_out)

    @property
    def settings(self) -> dict[str, object]:
        """The files that records are read from."""
        return {"records": Path(self.path).name}

    @property
    def identity(self) -> tuple[str, ...]:
        """As of every benchmark, and where the files are."""
        return (*super().identity, self.path)

    def examples(self, task: str) -> Iterator[Example]:
        """Examples of a task, in the order of the files."""
        return iter(self._by_task[task])

    def placed(self, prediction: Prediction) -> Prediction:
        """Its length in tokens, now that they are counted."""
        return replace(prediction, length=power_of_two(prediction.num_tokens))

    def table(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Mean score, and that of each length."""
        return {"score": total([item.score for item in predictions])} | score_by_length(predictions)


class WholeRecordBenchmark(RecordBenchmark):
    """Records whose prompts are never cut; a subclass gives `max_new_tokens` its default.

    Args:
        path: file, or folder of files.
        max_chars: longer prompts are left out.
        max_new_tokens: tokens of an answer at most.

    Raises:
        MissingFileError: there is no such file.
        InputError: `max_chars` is below 1, a record is malformed, or none is left.
    """

    def __init__(self, path: str, max_chars: int | None, max_new_tokens: int) -> None:
        self.max_chars, self.max_new_tokens = max_chars, max_new_tokens
        check_numbers(self, "", max_chars=(1, MOST_TOKENS), max_new_tokens=(1, MOST_ANSWERED))
        super().__init__(path)

    @property
    def settings(self) -> dict[str, object]:
        """Files and limits."""
        return super().settings | {"max_chars": self.max_chars, "max_new_tokens": self.max_new_tokens}

    def leaves_out(self, example: Example) -> str:
        """Prompts that are too long."""
        too_long = self.max_chars is not None and example.length > self.max_chars
        return f"longer than {self.max_chars:,} characters" if too_long else ""


def score_by_length(predictions: Sequence[Prediction]) -> dict[str, float]:
    """Mean scores in percent by length, two decimals."""
    lengths = sorted({item.length for item in predictions})
    return {str(length): total([item.score for item in predictions if item.length == length]) for length in lengths}


def power_of_two(num_tokens: int) -> int:
    """The smallest one that is not below a number of tokens."""
    return 1 << max(0, num_tokens - 1).bit_length()


def prompt_end(prompt: str) -> str:
    """How a prompt ends that is its question."""
    return prompt if len(prompt) <= _SHOWN else f"... {prompt[-_SHOWN:]}"
