"""Runs a benchmark on a model, from examples to scores; a killed run can continue anywhere."""

import logging
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from torch import nn

from evaluation.benchmark import Benchmark, Example
from evaluation.processes import bar, gather, rank
from evaluation.prompting import Prompt, check_room
from evaluation.reports.report import BenchmarkReport
from evaluation.running.answerers import Answerer, GivenAnswer, answerer_of
from evaluation.running.batching import PromptedExample
from evaluation.running.drawing import shuffled, subset
from evaluation.running.facts import DEVIATIONS, run_facts
from evaluation.running.preflight import check_prompts, extreme_examples
from evaluation.running.protocols import generation_fact, protocol_of
from evaluation.running.responses import Responses, StoredResponse, record_hash
from evaluation.running.results import make_report
from evaluation.running.settings import RunSettings, length_deviation
from evaluation.running.task_scores import TaskScores, is_done, score_task
from lit_longpo.errors import UnreachableError
from lit_longpo.policy import PromptFormat

_BEGUN = (
    "the first words of answers stand in the thoughts that the chat template opens: where it can leave them out, type "
    "--policy.template.options '{enable_thinking: false}'"
)

log = logging.getLogger(__name__)


@dataclass
class Runner:
    """One run over the tasks of a benchmark.

    Every process reads and prompts everything, and generates and scores its share. Only the first one writes
    responses; the others get to know them.

    Args:
        benchmark: the benchmark that is run.
        model: a model in these processes, or another answerer.
        prompt_format: the model's tokenizer and chat template.
        settings: which examples are run, and for how long.
        responses: answers so far, and where new ones go; on disk for the first process only.
        command: the typed command, for the report; empty means that of this process.
        extremes: the longest and shortest examples, if they are known already (`extreme_examples`).
    """

    benchmark: Benchmark
    model: nn.Module | Answerer
    prompt_format: PromptFormat
    settings: RunSettings
    responses: Responses
    command: str = ""
    extremes: Sequence[Example] | None = None

    def __post_init__(self) -> None:
        self.answerer = answerer_of(self.model)
        self.window = self.answerer.window
        self.max_length = self.settings.length(self.benchmark, self.window, self.prompt_format)
        self.protocol = protocol_of(self.settings.protocol, self.benchmark, self.answerer, self.prompt_format)
        self.answerer.check_generation(self.protocol.generation)
        self._unanswered = dict[str, None]()  # questions to which there was no answer in this run
        system = self.prompt_format.template.system
        deviations = [
            *([f"system message: {system}"] if system and not self.benchmark.in_own_template else []),
            *length_deviation(self.benchmark, self.max_length, self.window),
            *self.protocol.deviations(in_chat=self.prompt_format.uses_chat),
            *self.answerer.deviations,
            *([_BEGUN] if self.benchmark.begins_answers and self.prompt_format.opens_thoughts else []),
        ]
        facts = run_facts(self.answerer.facts(self.prompt_format), self.prompt_format, self.command)
        if self.benchmark.in_own_template:
            facts = {"prompt template": self.prompt_format.template.user} | facts
        self.responses.facts = self._asked_for | facts | {DEVIATIONS: deviations}

    def run(self, *, step: int = 0, name: str = "") -> BenchmarkReport:
        """Answer what is not answered yet, and score.

        Args:
            step: optimizer steps that the model had taken, for the report.
            name: of the model, likewise.

        Raises:
            InputError: a prompt and its answer do not fit the window, a record cannot be read, or stored responses
                belong to other records.
            MissingPackageError: a score needs a package that is not there.
            UnreachableError: a question has no answer.
        """
        tasks, minutes = self.settings.chosen(self.benchmark), self.settings.max_minutes
        extremes = extreme_examples(self.benchmark, tasks) if self.extremes is None else self.extremes
        check_prompts(extremes, self._prompt, self.benchmark.num_calls)
        end = None if minutes is None else time.monotonic() + 60 * minutes
        scores = {}
        for number, task in enumerate(tasks):
            scores[task] = self._task(task, _share(end, len(tasks) - number))
        self._check_answered()
        # What was asked for comes first in order, and holds where an earlier run was asked for something else.
        facts = self._asked_for | self.responses.made_by() | self._asked_for
        report = make_report(self.benchmark, scores, step=step, model=name, settings=facts)
        if report.cut is not None and rank() == 0:
            self._warn_of_cut(report.cut)
        return report

    def _warn_of_cut(self, cut: str) -> None:
        """Warn of prompts that were cut; `cut` says which."""
        given = "" if self.settings.max_length else " sets another length"
        window = "unknown length" if self.window is None else f"{self.window:,}"
        log.warning(
            "%s: cut in the middle to %s tokens (`max_length`%s), the model has a window of %s: %s",
            *(self.benchmark.name, f"{self.max_length:,}", given, window, cut),
        )

    def _task(self, task: str, end: float | None) -> TaskScores:
        every, drawn_with = self.benchmark.examples(task), self.benchmark.drawn_with(task)
        together = self.benchmark.whole_contexts
        examples, num_examples = subset(every, task, self.settings, drawn_with=drawn_with, whole_contexts=together)
        self.responses.remember(task, gather(self.responses.of_task(task))[0])
        left = self._left(examples)
        known = len(examples) - len(left)
        while left and not _over(end):  # again if a later call did not need all of its time
            for call in range(self.benchmark.num_calls):
                self._call(task, call, left, _share(end, self.benchmark.num_calls - call))
            left = self._left(left)
        scores = score_task(self.benchmark, examples, self.responses, num_examples, self.answerer.device)
        self.responses.forget(task)
        new = len(scores.predictions) - known
        shown = ", ".join(f"{column} {value:g}" for column, value in scores.table.items()) or "no score"
        log.info("%s: %d answered now, %d before, %d left: %s", task, new, known, len(left), shown)
        return scores

    def _left(self, examples: Sequence[Example], call: int | None = None) -> list[Example]:
        """The examples that can still be answered; with `call` only those whose next call that is."""
        waiting = [example for example in examples if example.id not in self._unanswered]
        rows = [(example, self.responses.of_example(example)) for example in waiting]
        calls = self.benchmark.num_calls
        return [item for item, answers in rows if call in (None, len(answers)) and not is_done(answers, calls)]

    def _call(self, task: str, call: int, examples: Sequence[Example], end: float | None) -> None:
        """Generate the responses of one call, until the time is over."""
        waiting = self._left(examples, call)
        if not waiting:
            return
        if end is None:
            self._at_once(task, call, waiting)
        else:
            self._until(end, task, call, waiting)

    def _at_once(self, task: str, call: int, examples: Sequence[Example]) -> None:
        """Answer all examples, batched by length over the whole task."""
        asked = list(self._asked(examples))
        with bar(task, sum(len(prompt.ids) for _, prompt in asked)) as advance:
            for prompts in self._answered(task, call, asked, None):
                advance(sum(len(prompt.ids) for prompt in prompts))

    def _until(self, end: float, task: str, call: int, examples: Sequence[Example]) -> None:
        """Answer examples in a random order until the time is over; prompts are built a few rounds at a time."""
        drawn_with = self.benchmark.drawn_with(task)
        asked = self._asked(shuffled(examples, f"{self.settings.seed}-{drawn_with}", alike=drawn_with != task))
        with bar(task, len(examples)) as advance:
            while not _over(end) and (part := self.answerer.portion(asked, self.settings.batching)):
                with closing(self._answered(task, call, part, self.settings.seed)) as rounds:
                    for prompts in rounds:
                        advance(len(prompts))
                        if _over(end):
                            return

    def _answered(
        self, task: str, call: int, asked: Sequence[PromptedExample], seed: int | None
    ) -> Generator[list[Prompt], None, None]:
        """Generate and store answers round by round; yields the prompts of each round."""
        prompts = [prompt for _, prompt in asked]
        batching, own = self.settings.batching, self.protocol.generation
        given = self.answerer.answers(prompts, self.prompt_format, batching, seed=seed, generation=own)
        with closing(given) as rounds:
            for answers in rounds:
                said = {number: one for number, one in answers.items() if one is not None}
                self._unanswered |= {asked[number][0].id: None for number in answers if number not in said}
                rows = [self._response(*asked[number], call, one) for number, one in said.items()]
                if rows and rank() == 0:
                    self.responses.add(task, rows)
                elif rows:
                    self.responses.remember(task, rows)
                yield [prompts[number] for number in answers]

    def _asked(self, examples: Sequence[Example]) -> Iterator[PromptedExample]:
        """Every example with the prompt of its next call, built only when it is taken."""
        for example in examples:
            yield example, self._prompt(example, [row.answer for row in self.responses.of_example(example)])

    def _prompt(self, example: Example, earlier: list[str]) -> Prompt:
        length = self.max_length
        asked = self.benchmark.prompt(example, self.prompt_format, length, window=self.window, earlier=earlier)
        prompt = self.protocol.adapted(asked)
        check_room(len(prompt.ids), prompt.max_new_tokens, length, self.window)
        self.answerer.check_prompt(prompt)
        return prompt

    def _response(self, example: Example, prompt: Prompt, call: int, said: GivenAnswer) -> StoredResponse:
        asked = (prompt.num_tokens, prompt.num_lost, record_hash(example), prompt.uses_chat)
        thinks = prompt.begins_turn and self.prompt_format.opens_thoughts
        thinks = thinks and self.answerer.gives_thoughts
        return StoredResponse(example.id, call, said.text, *asked, thinks=thinks, at_limit=said.at_limit)

    def _check_answered(self) -> None:
        if self._unanswered:
            names = list(self._unanswered)
            raise UnreachableError(
                f"expected an answer to every question, got none to {len(names)} of them, for example {names[0]}; type "
                "the same command again to ask those, or the same with --rescore for a report without them"
            )

    @property
    def _asked_for(self) -> dict[str, object]:
        """The settings that a report states."""
        return {
            "max_length": self.max_length,
            "window": self.window,
            "answers": generation_fact(self.settings.protocol, self.protocol.kept),
            "limit": self.settings.limit,
            "seed": self.settings.seed,
            "max_minutes": self.settings.max_minutes,
            **self.benchmark.settings,
        }


def _share(end: float | None, parts: int) -> float | None:
    """When the first of several parts ends that share the remaining time equally; `None` without a limit."""
    if end is None:
        return None
    now = time.monotonic()
    return now + max(0.0, end - now) / parts


def _over(end: float | None) -> bool:
    """Whether the time is over for any process: all stop together."""
    return end is not None and any(gather(time.monotonic() >= end))
