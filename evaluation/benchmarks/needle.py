"""Needle in a haystack and harder kinds of it: facts hidden at depths of contexts of chosen lengths."""

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from functools import cached_property
from statistics import fmean
from typing import Literal, get_args

from evaluation.benchmark import Benchmark, Example
from evaluation.benchmarks.haystack import CountTokens, Haystack, TextHaystack, lay, sentences, text_digest
from evaluation.benchmarks.needle_tasks import NEEDLE_TASKS, NeedleQuestion, Sizes
from evaluation.benchmarks.task_names import elsewhere
from evaluation.metrics import sub_em
from evaluation.metrics.ruler import all_found, share_found
from evaluation.prompting import Prompt, uncut
from evaluation.reports.grouping import official_parts, official_parts_by_length
from evaluation.reports.intervals import Means, means_of
from evaluation.reports.report import BenchmarkReport, Prediction
from evaluation.reports.table import Section, means_section, of_fewer_tasks
from lit_longpo.errors import InputError
from lit_longpo.policy import PromptFormat
from lit_longpo.ranges import MOST, MOST_ANSWERED, MOST_TOKENS, check_numbers

Scoring = Literal["share", "all"]
NEEDLE = "needle"

__all__ = ["Haystack", "NeedleBenchmark", "TextHaystack"]


@dataclass(frozen=True)
class NeedleBenchmark(Benchmark):
    """A grid of lengths and depths, for one or several tasks.

    "needle" hides one fact of the haystack; it is found if an accepted answer is in the response
    (`sub_em`). The other tasks, in prose of our own, are `evaluation.benchmarks.needle_tasks`; the share of expected
    strings that are in the response is their score, as in RULER. In "multi_key" the asked fact lies at the
    depth of the cell, and the cells of one column ask about the same contexts, whose keys and values are computed
    once; the facts of the others are scattered over the context and have no depth.

    Args:
        haystack: source of "needle"; `None` means plain prose (`TextHaystack`).
        lengths: tokens of the context, one column each.
        depths: relative positions of the needle, one row each.
        num_examples: questions in every cell. Tasks without depths have as many at each length as the others.
        max_new_tokens: tokens of an answer at most; `None` means what each task needs.
        tasks: of "needle", "multi_key", "multi_value", "multi_query", "variable_tracking".
        scoring: of the other tasks: "share" of the strings found, or 1 only if "all" are.
        sizes: how much the other tasks hide.
        hay: text file between their facts; `None` means simple made-up sentences.
        seed: of the other tasks.

    Raises:
        InputError: an unknown task or scoring, a length below 1, a depth outside 0 to 1.
    """

    name = "needle"
    in_own_template = True
    protocol = "lit_longpo needle 2; lists scored by the rule of NVIDIA/RULER c3f5e3b"

    haystack: Haystack | None = None
    lengths: Sequence[int] = (512, 1024, 2048, 4096)
    depths: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0)
    num_examples: int = 5
    max_new_tokens: int | None = None
    tasks: tuple[str, ...] = (NEEDLE,)
    scoring: Scoring = "share"
    sizes: Sizes = field(default_factory=Sizes)
    hay: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        known = (NEEDLE, *NEEDLE_TASKS)
        unknown = [task for task in self.tasks if task not in known]
        if unknown or not self.tasks:
            raise InputError(
                f"expected tasks of {', '.join(known)}, got {list(self.tasks)}; correct `tasks`"
                f"{elsewhere(unknown, known)}"
            )
        if self.scoring not in get_args(Scoring):
            raise InputError(f"expected scoring of {', '.join(get_args(Scoring))}, got {self.scoring!r}")
        check_numbers(self, "", lengths=(1, MOST_TOKENS), depths=(0, 1))
        if not self.lengths or not self.depths:
            raise InputError(
                f"expected at least one length and one depth, got {list(self.lengths)} and {list(self.depths)}; name "
                "some in `lengths` and `depths`"
            )
        check_numbers(self, "", num_examples=(1, MOST))
        check_numbers(self, "", max_new_tokens=(1, MOST_ANSWERED))

    @property
    def deviations(self) -> tuple[str, ...]:
        """Why figures are not RULER's."""
        wordings = ("hay, wordings and sizes are our own: not comparable with published figures of RULER",)
        strict = ("lists count only if complete, where RULER counts the share",) if self.scoring == "all" else ()
        return wordings + strict if set(self.tasks) - {NEEDLE} else ()

    @property
    def score_name(self) -> str:
        """How lists of facts are scored; a single one has one score."""
        return self.scoring if set(self.tasks) - {NEEDLE} else ""

    @property
    def settings(self) -> dict[str, object]:
        """What contexts and answers depend on beside the grid, which ids tell."""
        named = self._source if is_dataclass(self._source) else type(self._source).__name__
        told: dict[str, object] = {
            "haystack": str(named),
            "hay": self.hay,
            "sizes": str(self.sizes),
            "needle seed": self.seed,
        }
        source = self._source.path if isinstance(self._source, TextHaystack) else None
        files = {path for path in (self.hay, source) if path is not None}
        digests = {f"text of {path}": text_digest(path) for path in sorted(files)}
        return told | digests | ({} if self.max_new_tokens is None else {"max_new_tokens": self.max_new_tokens})

    @property
    def identity(self) -> tuple[str, ...]:
        """The grid as well, which the settings lack."""
        grid = (self.lengths, self.depths, self.num_examples, self.max_new_tokens, self.scoring)
        return (*super().identity, *map(str, grid))

    @cached_property
    def _made(self) -> dict[str, tuple[Example, ...]]:
        return {}

    @property
    def _source(self) -> Haystack:
        return self.haystack or TextHaystack()

    def examples(self, task: str) -> Iterator[Example]:
        """Questions of a task, lengths ascending as given, without contexts: those take a tokenizer.

        They are made once: a haystack lays a whole context for a question, and every run asks for all of them.
        """
        if task not in self._made:
            cells = itertools.product(self.lengths, map(float, self.depths), range(self.num_examples))
            self._made[task] = tuple(self._example(task, *cell) for cell in cells)
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
        """Context and question in the policy's own template. Nothing is ever cut.

        Raises:
            InputError: the prompt is longer than `max_length`, or prompt and answer than `window`.
        """
        context = self.context(example, lambda text: len(prompt_format.encode(text)))
        ids = prompt_format.encode_prompt(context, example.question).ids
        prompt = Prompt(
            ids,
            self._limit(example.task),
            prompt_format.stop_ids,
            num_tokens=len(ids),
            uses_chat=prompt_format.uses_chat,
            messages=(("user", prompt_format.template.filled(context, example.question)[0]),),
        )
        return uncut(prompt, max_length, window, advice=f"drop the length {example.length} from `lengths`")

    def context(self, example: Example, num_tokens: CountTokens) -> str:
        """Hay and facts of an example, as long as a tokenizer counts.

        Raises:
            InputError: the facts do not fit, or the haystack asks something else than before.
        """
        if example.task != NEEDLE:
            asked, draw = self._question(example.task, example.length, example.fields)
            return lay(sentences(draw, self.hay), asked.facts, example.length, num_tokens)
        depth, index = float(example.fields["depth"]), int(example.fields["index"])
        context, question, answers = self._source.needle(example.length, depth, index, num_tokens)
        if (question, answers) != (example.question, example.answers):
            raise InputError(
                f"expected the question {example.question!r} again, got {question!r}; in "
                f"{type(self._source).__name__} question and answers must not depend on `num_tokens`"
            )
        return context

    def score(self, example: Example, prediction: str) -> float:
        """0 to 1; see the class."""
        if example.task == NEEDLE:
            return sub_em(prediction, example.answers)
        return {"share": share_found, "all": all_found}[self.scoring](prediction, example.answers)

    def table(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """Percent by length, and the mean over lengths; two decimals."""
        lengths: dict[int, list[float]] = {}
        for item in predictions:
            lengths.setdefault(item.length, []).append(item.score)
        means = {length: fmean(lengths[length]) for length in sorted(lengths)}
        columns = {str(length): round(100 * mean, 2) for length, mean in means.items()}
        return columns | {"mean": round(100 * fmean(means.values()), 2)}

    @classmethod
    def means(cls, report: BenchmarkReport) -> dict[str, Means]:
        """With several tasks, means of each "length" over tasks, and the mean of each "task"."""
        if len(report.tables) < 2:
            return {}
        lengths = {str(length): parts for length, parts in official_parts_by_length(report).items()}
        tasks = {task: {task: part} for task, part in official_parts(report, "mean").items()}
        return {"length": means_of(lengths), "task": means_of(tasks)}

    @classmethod
    def summary(cls, report: BenchmarkReport) -> list[Section]:
        """With several tasks, their mean by length."""
        means = cls.means(report)
        if not means:
            return []
        note = f"Plain mean of the tasks.{of_fewer_tasks(means['length'])}"
        return [means_section("Tasks by length", "tokens", means["length"], note)]

    def _limit(self, task: str) -> int:
        return self.max_new_tokens or (16 if task == NEEDLE else NEEDLE_TASKS[task].max_new_tokens)

    def _example(self, task: str, length: int, depth: float, index: int) -> Example:
        has_depth = task == NEEDLE or NEEDLE_TASKS[task].has_depth
        fields = {"depth": repr(depth), "index": str(index)}
        if has_depth and task != NEEDLE:  # there is a fact at each of them in one context
            fields["depths"] = repr([float(place) for place in self.depths])
        if task == NEEDLE:
            _, question, answers = self._source.needle(length, depth, index, lambda text: len(text.split()))
        else:
            asked, _ = self._question(task, length, fields)
            question, answers = asked.question, asked.answers
        name = f"{task}/{length}-{depth:g}-{index}"
        # The tasks with depths ask about one context at all of them; every needle has its own.
        context = f"{task}/{length}-{index}" if has_depth and task != NEEDLE else name
        shown = depth if has_depth else None
        return Example(name, task, length, question, answers, fields, depth=shown, context=context)

    def _question(self, task: str, length: int, cell: Mapping[str, str]) -> tuple[NeedleQuestion, random.Random]:
        """Of a cell and number, and the state from which its hay is drawn."""
        kind, depth = NEEDLE_TASKS[task], float(cell["depth"])
        part = "" if kind.has_depth else f"-{depth}"  # one context for all depths, or one for each
        draw = random.Random(f"{self.seed}-{task}-{length}{part}-{cell['index']}")
        return kind.make(draw, self.depths, list(self.depths).index(depth), self.sizes), draw
