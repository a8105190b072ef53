"""RULER's 13 tasks at chosen lengths, made for any tokenizer from the official templates."""

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from evaluation.benchmark import Benchmark, Example
from evaluation.benchmarks.records import score_by_length
from evaluation.benchmarks.ruler import averages
from evaluation.benchmarks.ruler.averages import LENGTHS
from evaluation.benchmarks.ruler.counting import CommonWordsGenerator, FrequentWordsGenerator
from evaluation.benchmarks.ruler.documents import QuestionGenerator, read_hotpotqa, read_squad
from evaluation.benchmarks.ruler.essays import Essays
from evaluation.benchmarks.ruler.fitting import Fitting
from evaluation.benchmarks.ruler.generator import Generator
from evaluation.benchmarks.ruler.niah import NeedleGenerator
from evaluation.benchmarks.ruler.templates import changed_texts, official_file, read_tasks
from evaluation.benchmarks.ruler.tracking import TrackingGenerator
from evaluation.benchmarks.ruler.words import read_words
from evaluation.benchmarks.task_names import unknown_tasks
from evaluation.metrics import score
from evaluation.metrics.ruler import CATEGORIES, TASKS
from evaluation.prompting import Prompt, uncut
from evaluation.reports.grouping import official_parts
from evaluation.reports.intervals import Means, means_of
from evaluation.reports.report import BenchmarkReport, Prediction
from evaluation.reports.table import Section, means_section, of_fewer_tasks, official_cell
from lit_longpo.errors import InputError, MissingFileError
from lit_longpo.policy import PromptFormat
from lit_longpo.ranges import MOST, MOST_TOKENS, check_numbers

_SEED, _NUM_EXAMPLES = 42, 500
_ESSAY_TASKS = ("niah_single_2", "niah_single_3", "niah_multikey_1", "niah_multivalue", "niah_multiquery")
_SOURCES = dict.fromkeys(_ESSAY_TASKS, "essays") | {"qa_1": "squad", "qa_2": "hotpotqa"}
_FILES = {"essays": "PaulGrahamEssays.json", "squad": "squad.json", "hotpotqa": "hotpotqa.json"}
_NUM_QUESTIONS = {"qa_1": 5928, "qa_2": 7405}
_LIST = "english_words.json"


class RULER(Benchmark):
    """RULER (Hsieh et al., arXiv 2404.06654): needles, variable tracking, word counts and questions by length.

    A length counts the whole prompt, chat template and special tokens included, and the longest answer; contexts are
    made as large as fits by the official search and nothing is cut. The model goes on from the official answer
    prefix, behind the chat template if there is one. Examples follow the official rules and are drawn anew: answers
    do not depend on the tokenizer. Not to be confused with `NeedleBenchmark`, whose texts and tasks are our own.

    Args:
        folder: `scripts` of NVIDIA/RULER at c3f5e3b, or a folder with `synthetic.yaml` and the dictionary of
            `data/synthetic/constants.py` as `templates.json`; what the official scripts download into
            `data/synthetic/json` is found there.
        tasks: which of the 13; `None` means all that need no file that is missing.
        lengths: tokens of prompt and answer.
        num_examples: of each task and length.
        essays: text, or JSON with `text`, for the five tasks with essays.
        squad: SQuAD 2.0's dev file, for qa_1.
        hotpotqa: HotpotQA's dev file of the distractor setting, for qa_2.
        words: folder with wonderwords' word lists (its `assets`); `None` means those of the installed package, and
            made-up words without it.
        english_words: a longer list, JSON, which lists of common words need from about 110,000 tokens on.
        seed: of all that is drawn.

    Raises:
        MissingFileError: an official file or a named one is missing.
        OfficialFileError: one of them is not what it must be.
        InputError: no folder, an unknown task, a length below 500, or a task whose texts are not named.
    """

    name = "ruler"
    tasks: tuple[str, ...] = ()
    protocol = "NVIDIA/RULER c3f5e3b"
    fills_length = True
    begins_answers = True
    notes = (
        "the answer goes on from the official answer prefix, as before 48cbc8b and from 8ef9e90 on; figures of "
        "NeMo-Skills (rulerv1-ns) are without it and not comparable",
        "examples are drawn anew by the official rules; the solved example of cwe stands in the same message",
        "lengths count the chat template, special tokens, prefix and the longest answer",
    )

    def __init__(
        self,
        folder: str | Path | None = None,
        *,
        tasks: Sequence[str] | None = None,
        lengths: Sequence[int] = LENGTHS,
        num_examples: int = _NUM_EXAMPLES,
        essays: str | Path | None = None,
        squad: str | Path | None = None,
        hotpotqa: str | Path | None = None,
        words: str | Path | None = None,
        english_words: str | Path | None = None,
        seed: int = _SEED,
    ) -> None:
        if folder is None:
            raise InputError(
                "expected `folder`, the official templates of RULER, got none; type git clone "
                "https://github.com/NVIDIA/RULER and then --benchmark.folder RULER/scripts"
            )
        if not lengths or len(set(lengths)) < len(lengths):
            raise InputError(f"expected different lengths, got {lengths}; correct `lengths`")
        self.folder, self.lengths = Path(folder).expanduser(), tuple(lengths)
        self.num_examples, self.seed = num_examples, seed
        check_numbers(self, "", lengths=(500, MOST_TOKENS), num_examples=(1, MOST))
        named = {"essays": essays, "squad": squad, "hotpotqa": hotpotqa}
        _check_files(named)
        found = {name: _path(path) or official_file(self.folder, _FILES[name]) for name, path in named.items()}
        self.paths = {name: path for name, path in found.items() if path is not None}
        self.tasks = self._chosen(tasks)
        self._official = read_tasks(self.folder, self.tasks)
        self._words = read_words(_path(words), _path(english_words) or official_file(self.folder, _LIST))
        self._essays = Essays(self.paths["essays"]) if set(self.tasks) & set(_ESSAY_TASKS) else None
        self._generators = {task: self._generator(task) for task in self.tasks}
        self._fitting = Fitting(self._generators, seed)
        self._made: dict[str, tuple[Example, ...]] = {}

    @property
    def deviations(self) -> tuple[str, ...]:
        """Other templates, words, essays or questions than the official ones, and tasks that are left out."""
        left_out = [task for task in TASKS if task not in self.tasks]
        return (
            *changed_texts(self._official, self.folder),
            *self._words.deviations,
            *self._essay_deviations(),
            *self._question_deviations(),
            *([f"seed {self.seed}, official {_SEED}"] if self.seed != _SEED else []),
            *([f"tasks left out: {', '.join(left_out)}"] if left_out else []),
        )

    @property
    def official_counts(self) -> dict[str, int]:
        """500 examples at each length."""
        return dict.fromkeys(self.tasks, _NUM_EXAMPLES * len(self.lengths))

    @property
    def settings(self) -> dict[str, object]:
        """What contexts depend on beside lengths and rows, which ids tell."""
        files = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in self.paths.items()}
        return {"ruler seed": self.seed, "templates": self._official.digest, "words": self._words.digest, **files}

    @property
    def identity(self) -> tuple[str, ...]:
        """The grid as well, which the settings lack."""
        return (*super().identity, str(self.lengths), str(self.num_examples))

    def examples(self, task: str) -> Iterator[Example]:
        """Questions of a task, by length, without contexts: those take a tokenizer.

        They are made once, however often a run asks for them.
        """
        if task not in self._made:
            num_rows = min(self.num_examples, self._generators[task].num_rows or self.num_examples)
            cells = itertools.product(self.lengths, range(num_rows))
            self._made[task] = tuple(self._fitting.example(task, length, row) for length, row in cells)
        yield from self._made[task]

    def prompt(
        self,
        example: Example,
        prompt_format: PromptFormat,
        max_length: int,
        *,
        window: int | None = None,
        earlier: Sequence[str] = (),
    ) -> Prompt:
        """Context and question, and the answer prefix behind the chat template. Nothing is ever cut.

        Raises:
            InputError: the example cannot be made so small, or is longer than `max_length` or than `window` leaves.
        """
        ids = self._fitting.ids(example, prompt_format)
        limit = self._generators[example.task].template.max_new_tokens
        prompt = Prompt(ids, limit, prompt_format.stop_ids, num_tokens=len(ids), uses_chat=prompt_format.uses_chat)
        return uncut(prompt, max_length, window, advice=f"drop the length {example.length} from `lengths`")

    def score(self, example: Example, prediction: str) -> float:
        """The share of the expected strings, or of questions whether any was found."""
        return score("ruler", example.task, prediction, example.answers)

    def table(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Percent by length, and the mean over lengths; two decimals."""
        columns = score_by_length(predictions)
        return columns | {"mean": round(fmean(columns.values()), 2)}

    @classmethod
    def means(cls, report: BenchmarkReport) -> dict[str, Means]:
        """Means of each "length" over tasks, of each "category", and of kind "average" the papers' averages.

        Averages are there once all 13 tasks are; README's over lengths ("increasing" and "decreasing" weights) if
        the six official lengths are all there is.
        """
        parts = averages.tasks_by_length(report)
        over_lengths = official_parts(report, "mean")
        categories = {
            name: {task: over_lengths[task] for task in tasks}
            for name, tasks in CATEGORIES.items()
            if over_lengths.keys() >= set(tasks)
        }
        over_all = averages.averages(parts, over_lengths) if over_lengths.keys() >= set(TASKS) else {}
        lengths = {str(length): tasks for length, tasks in parts.items()}
        return {"length": means_of(lengths), "category": means_of(categories), "average": over_all}

    @classmethod
    def summary(cls, report: BenchmarkReport) -> list[Section]:
        """Tasks by length, means of lengths and categories, averages, effective length."""
        means, parts = cls.means(report), averages.tasks_by_length(report)
        run = list(dict.fromkeys(task for tasks in parts.values() for task in tasks))
        rows = [(task, *(official_cell(tasks.get(task)) for tasks in parts.values())) for task in run]
        missing = [task for task in TASKS if task not in run]
        lack = f" Not RULER's mean, as these tasks were not run: {', '.join(missing)}." if missing else ""
        lack += of_fewer_tasks(means["length"])
        sections = [
            Section("Tasks", ("task", *map(str, parts)), rows, "Percent by length in tokens."),
            means_section("Lengths", "tokens", means["length"], f"Plain mean of the tasks.{lack}"),
            means_section("Categories", "category", means["category"], "Plain mean of tasks and lengths."),
            means_section("Averages", "average", means["average"], averages.NOTE),
        ]
        effective = [] if missing else [averages.effective_section(means["length"])]
        return [*(section for section in sections if section.rows), *effective]

    def _chosen(self, tasks: Sequence[str] | None) -> tuple[str, ...]:
        unknown = [task for task in tasks or () if task not in TASKS]
        if unknown or tasks == []:
            raise unknown_tasks(unknown, TASKS)
        ready = [task for task in TASKS if _SOURCES.get(task) is None or _SOURCES[task] in self.paths]
        for task in tasks or ():
            if task not in ready:
                name = _SOURCES[task]
                raise InputError(
                    f"expected `{name}` for {task}, got none; name the file, or put it as {_FILES[name]} into "
                    f"{self.folder}/data/synthetic/json"
                )
        return tuple(ready) if tasks is None else tuple(task for task in TASKS if task in tasks)

    def _generator(self, task: str) -> Generator[Any]:
        official, seed = self._official, self.seed
        arguments = official.arguments[task]
        if task in CATEGORIES["NIAH"]:
            return NeedleGenerator(official, arguments, seed, self._words, self._essays)
        made: dict[str, Callable[[], Generator[Any]]] = {
            "vt": partial(TrackingGenerator, official, arguments, seed),
            "cwe": partial(CommonWordsGenerator, official, arguments, seed, self._words),
            "fwe": partial(FrequentWordsGenerator, official, arguments, seed),
            "qa_1": lambda: QuestionGenerator(official, seed, read_squad(self.paths["squad"])),
            "qa_2": lambda: QuestionGenerator(official, seed, read_hotpotqa(self.paths["hotpotqa"])),
        }
        return made[task]()

    def texts(self, task: str, length: int, row: int, size: int) -> tuple[str, str]:
        """The user's message and the answer prefix, with a context of some size."""
        return self._fitting.texts(task, length, row, size)

    def _essay_deviations(self) -> tuple[str, ...]:
        if (essays := self._essays) is None:
            return ()
        name = self.paths["essays"].name
        other = () if name == _FILES["essays"] else (f"essays: {name} ({len(essays.words):,} words)",)
        return other + essays.deviations

    def _question_deviations(self) -> Iterator[str]:
        for task, official in _NUM_QUESTIONS.items():
            number = self._generators[task].num_rows if task in self.tasks else official
            if number != official:
                name = self.paths[_SOURCES[task]].name
                yield f"{task}: {number:,} questions in {name}, in the official file {official:,}"


def _check_files(named: Mapping[str, str | Path | None]) -> None:
    """Refuse a file that was named and is not there, also where no task that is asked reads it."""
    for name, path in named.items():
        if path is not None and not Path(path).expanduser().is_file():
            raise MissingFileError(
                f"expected a file at `benchmark.init_args.{name}: {path}`, found none; name another, or leave it out"
            )


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path).expanduser()
