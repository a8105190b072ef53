"""BABILong: bAbI's facts among the sentences of books. Data: hub RMT-team/babilong, prompts: booydar/babilong."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from evaluation.benchmark import Benchmark, Example
from evaluation.benchmarks.official_files import OfficialFileError, Row, hashes, parse_literals, read_text
from evaluation.benchmarks.placeholders import placeholders
from evaluation.benchmarks.records import read_file, record_files, score_by_length
from evaluation.metrics import score
from evaluation.metrics.babilong import LABELS
from evaluation.metrics.longbench import total
from evaluation.prompting import Prompt, Rules, whole_prompt
from evaluation.reports.grouping import official_parts_by_length
from evaluation.reports.intervals import Means, means_of
from evaluation.reports.report import BenchmarkReport, Prediction
from evaluation.reports.table import Section, means_section
from lit_longpo.errors import InputError
from lit_longpo.policy import PromptFormat
from lit_longpo.ranges import MOST_ANSWERED, check_numbers

_PROMPTS = "be08d7e46617"  # sha256 of the official prompts.py begins with it
_PARTS = ("instruction", "examples", "post_prompt")
_FILLED = {*_PARTS, "context", "question"}
_HEADLINE = ("qa1", "qa2", "qa3", "qa4", "qa5")
_TASK = re.compile(r"(?<![A-Za-z0-9])(qa\d+)(?![0-9])")
_LENGTH = re.compile(r"(?<![A-Za-z0-9])(\d+)([kM])(?![A-Za-z0-9])")
_UNITS = {"k": 1000, "M": 1_000_000}


class BABILong(Benchmark):
    """Up to 20 tasks at lengths from "0k" (the facts alone) to "10M".

    Args:
        path: folder of the data in the hub's layout, `qa1/0k.json` or `0k/qa1-....parquet`: task and length are read
            from the names; or one such file.
        prompts: the official `babilong/prompts.py`, which is read and not executed.
        lengths: to ask, for example ["0k", "4k"]; `None` means all that are there. Contexts are never cut.
        max_new_tokens: tokens of an answer at most; officially 20.

    Raises:
        MissingFileError: there are no records, or no prompts.
        InputError: a name says no task or length, a prompt is missing, or a length that is not there is asked for.
    """

    name = "babilong"
    protocol = "booydar/babilong 7a6efee"

    def __init__(self, path: str, prompts: str, lengths: Sequence[str] | None = None, max_new_tokens: int = 20) -> None:
        self.path, self.prompts, self.max_new_tokens = path, Path(prompts), max_new_tokens
        check_numbers(self, "", max_new_tokens=(1, MOST_ANSWERED))
        files = [(_place(file, path), file) for file in record_files(path)]
        known = sorted(dict.fromkeys(length for (_, length), _ in files), key=_tokens)
        if unknown := [length for length in lengths or () if length not in known]:
            raise InputError(f"expected lengths of {', '.join(known)}, got {', '.join(unknown)}; correct `lengths`")
        self.lengths = tuple(length for length in known if lengths is None or length in lengths)
        self._files = _by_place((place, file) for place, file in files if place[1] in self.lengths)
        found = {task for task, _ in self._files}
        self.tasks = tuple(task for task in LABELS if task in found)
        self._template, self._parts = _read_prompts(self.prompts, self.tasks)

    @property
    def deviations(self) -> tuple[str, ...]:
        """Other prompts, and another limit."""
        said = {
            f"prompts.py is not the official file: sha256 {self._digest}, expected {_PROMPTS}...": not (
                self._digest.startswith(_PROMPTS)
            ),
            f"answers of {self.max_new_tokens} tokens, officially 20": self.max_new_tokens != 20,
        }
        return tuple(text for text, holds in said.items() if holds)

    @property
    def settings(self) -> dict[str, object]:
        """Lengths, limit and the hash of the prompts."""
        return {"lengths": list(self.lengths), "max_new_tokens": self.max_new_tokens, "prompts": self._digest}

    @property
    def identity(self) -> tuple[str, ...]:
        """As of every benchmark, and where the records are."""
        return (*super().identity, self.path)

    @property
    def _digest(self) -> str:
        return hashes(self.prompts.parent, [self.prompts.name])[self.prompts.name]

    def examples(self, task: str) -> Iterator[Example]:
        """Those of a task, lengths ascending.

        Raises:
            InputError: a record is malformed; the message names file, line and field.
        """
        for length in self.lengths:
            rows = chain.from_iterable(map(read_file, self._files.get((task, length), ())))
            for number, row in enumerate(rows, 1):
                yield _example(row, task, length, number)

    def prompt(
        self,
        example: Example,
        prompt_format: PromptFormat,
        max_length: int,
        *,
        window: int | None = None,
        earlier: Sequence[str] = (),
    ) -> Prompt:
        """The filled template, whole.

        Raises:
            InputError: it is longer than `max_length`, or prompt and answer than `window`.
        """
        text = self._template.format(**self._parts[example.task], **example.fields).strip()
        rules, advice = Rules("longbench_v2", self.max_new_tokens), "leave out the longest of --benchmark.lengths"
        return whole_prompt(text, prompt_format, rules, max_length, window, advice=advice)

    def score(self, example: Example, prediction: str) -> float:
        """1.0 if the target is the only label in the first sentence."""
        return score(self.name, example.task, prediction, example.answers, question=example.fields["question"])

    def table(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Accuracy by length, and over all."""
        by_length = {_named(int(length)): value for length, value in score_by_length(predictions).items()}
        return by_length | {"score": total([item.score for item in predictions])}

    @classmethod
    def means(cls, report: BenchmarkReport) -> dict[str, Means]:
        """The mean of qa1 to qa5 at each "length"; of those of them that were asked."""
        parts = {
            _named(length): {task: part for task, part in tasks.items() if task in _HEADLINE}
            for length, tasks in official_parts_by_length(report, _named).items()
        }
        means = means_of(parts)
        return {"length": means} if means else {}

    @classmethod
    def summary(cls, report: BenchmarkReport) -> list[Section]:
        """The headline numbers."""
        means = cls.means(report)
        note = f"Plain mean of qa1 to qa5; here of {', '.join(task for task in _HEADLINE if task in report.tables)}."
        return [means_section("Accuracy by length", "length", means["length"], note)] if means else []


def _place(file: Path, root: str) -> tuple[str, str]:
    """Task and length that the name of a file, below its root or whole, says."""
    name = str(file.relative_to(root)) if Path(root).is_dir() else "/".join(file.parts[-2:])
    task, length = _TASK.search(name), _LENGTH.search(name)
    if task is None or length is None or task[1] not in LABELS:
        raise InputError(
            f"expected files named after task and length, as qa1/4k.json or 4k/qa1-00000.parquet, got {name}; keep "
            "the hub's layout, or set --benchmark.path to the folder `data` in it"
        )
    return task[1], length[0]


def _by_place(files: Iterable[tuple[tuple[str, str], Path]]) -> dict[tuple[str, str], list[Path]]:
    """The parts of each task and length, which lie beside each other."""
    places: dict[tuple[str, str], list[Path]] = {}
    for place, file in files:
        parts = places.setdefault(place, [])
        if parts and (parts[0].parent, parts[0].suffix) != (file.parent, file.suffix):
            raise InputError(
                f"expected {' at '.join(place)} once, got {parts[0]} and {file}; set --benchmark.path to one folder"
            )
        parts.append(file)
    return places


def _tokens(length: str) -> int:
    return int(length[:-1]) * _UNITS[length[-1]]


def _named(num_tokens: int) -> str:
    return f"{num_tokens // 1_000_000}M" if num_tokens >= 1_000_000 else f"{num_tokens // 1000}k"


def _read_prompts(path: Path, tasks: Sequence[str]) -> tuple[str, dict[str, dict[str, str]]]:
    """The template, and what fills it for each task."""
    values = parse_literals(read_text(path, "babilong/prompts.py"), str(path), ("DEFAULT_TEMPLATE", "DEFAULT_PROMPTS"))
    template, prompts = values.get("DEFAULT_TEMPLATE"), values.get("DEFAULT_PROMPTS")
    if not isinstance(template, str) or placeholders(template) != _FILLED:
        raise OfficialFileError.at(str(path), "DEFAULT_TEMPLATE", f"a text with {', '.join(sorted(_FILLED))}", template)
    if not isinstance(prompts, dict):
        raise OfficialFileError.at(str(path), "DEFAULT_PROMPTS", "a dict", prompts)
    return template, {task: _parts(prompts.get(task), f"{path}: {task}") for task in tasks}


def _parts(prompt: object, where: str) -> dict[str, str]:
    texts = prompt if isinstance(prompt, dict) else {}
    for name in _PARTS:
        if not isinstance(texts.get(name), str):
            raise OfficialFileError.at(where, name, "text", texts.get(name))
    return {name: texts[name] for name in _PARTS}


def _example(row: Row, task: str, length: str, number: int) -> Example:
    fields = {"context": row.text("input"), "question": row.text("question")}
    name, answer = f"{task}/{length}-{number}", (row.text("target"),)
    # The official files have the same questions in the same rows at every length (`babilong_evals` in the repository).
    about = f"{task}/{number}/{fields['question'].strip()}/{answer[0]}"
    groups = {"length": length}
    return Example(name, task, _tokens(length), fields["question"], answer, fields, groups, context=about)
