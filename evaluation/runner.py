"""Runs a benchmark on a model: examples to prompts to responses to scores, resumable at any point."""

import logging
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from torch import nn

from evaluation.benchmark import Benchmark, BenchmarkReport, Example
from evaluation.generation import answer
from evaluation.progress import bar
from evaluation.prompting import Prompt, decode
from evaluation.ranks import gather, rank
from evaluation.responses import Response, Responses, record_hash
from evaluation.scoring import TaskScores, is_done, make_report, score_task, subset
from evaluation.settings import RunSettings, window
from lit_longpo.policy import PromptFormat

log = logging.getLogger(__name__)


@dataclass
class Runner:
    """One run over the tasks of a benchmark.

    Every process reads, prompts and scores everything and generates its share. Only the first one writes
    responses; the others get to know them.

    Args:
        benchmark: what is asked.
        model: who answers.
        prompt_format: its tokenizer and chat template.
        settings: which examples, and for how long.
        responses: what is answered already, and where new answers go; of the first process only.
    """

    benchmark: Benchmark
    model: nn.Module
    prompt_format: PromptFormat
    settings: RunSettings
    responses: Responses

    def __post_init__(self) -> None:
        self.max_length = self.settings.length(self.benchmark, self.model, self.prompt_format)

    def run(self, *, step: int = 0, name: str = "") -> BenchmarkReport:
        """Answer what is not answered yet, and score.

        Args:
            step: optimizer steps the model had taken.
            name: of the model, for the report.

        Raises:
            ValueError: a prompt and its answer do not fit the window, or stored responses belong to other records.
        """
        minutes = self.settings.max_minutes
        end = None if minutes is None else time.monotonic() + 60 * minutes
        scores, tasks = {}, self.settings.chosen(self.benchmark)
        for number, task in enumerate(tasks):
            now = time.monotonic()
            share = None if end is None else now + max(0.0, end - now) / (len(tasks) - number)
            scores[task] = self._task(task, share)
        return make_report(self.benchmark, scores, step=step, model=name, settings=self._told())

    def _task(self, task: str, end: float | None) -> TaskScores:
        examples, num_examples = subset(self.benchmark.examples(task), task, self.settings)
        self.responses.share(task, gather(self.responses.of_task(task))[0])
        known = sum(is_done(self.responses.of_example(example), self.benchmark.num_calls) for example in examples)
        for call in range(self.benchmark.num_calls):
            self._call(task, call, examples, end)
        scores = score_task(self.benchmark, examples, self.responses, num_examples)
        self.responses.forget(task)
        new, left = len(scores.predictions) - known, len(examples) - len(scores.predictions)
        log.info("%s: %d answered now, %d before, %d left: %s", task, new, known, left, _shown(scores))
        return scores

    def _call(self, task: str, call: int, examples: Sequence[Example], end: float | None) -> None:
        """Generate the responses of one call, until the time is over."""
        waiting = [(example, self.responses.of_example(example)) for example in examples]
        asked = [
            (example, self._prompt(example, [row.response for row in rows]))
            for example, rows in waiting
            if len(rows) == call and not is_done(rows, self.benchmark.num_calls)
        ]
        if not asked or _over(end):
            return
        prompts = [prompt for _, prompt in asked]
        seed = None if end is None else self.settings.seed
        rounds = answer(self.model, prompts, self.settings.batching, seed=seed)
        with bar(task, sum(len(prompt.ids) for prompt in prompts)) as advance, closing(rounds):
            for found in rounds:
                rows = [self._response(*asked[number], call, ids) for number, ids in sorted(found.items())]
                (self.responses.add if rank() == 0 else self.responses.share)(task, rows)
                advance(sum(len(prompts[number].ids) for number in found))
                if _over(end):
                    return

    def _prompt(self, example: Example, earlier: list[str]) -> Prompt:
        positions = window(self.model)
        return self.benchmark.prompt(example, self.prompt_format, self.max_length, window=positions, earlier=earlier)

    def _response(self, example: Example, prompt: Prompt, call: int, ids: Sequence[int]) -> Response:
        text = decode(ids, self.prompt_format)
        return Response(example.id, call, text, prompt.num_tokens, prompt.num_lost, record_hash(example))

    def _told(self) -> dict[str, object]:
        own = self.settings
        return {
            "max_length": self.max_length,
            "window": window(self.model),
            "limit": own.limit,
            "seed": own.seed,
            "max_minutes": own.max_minutes,
            "system message": self.prompt_format.template.system,
            **self.benchmark.settings,
        }


def _over(end: float | None) -> bool:
    """Whether the time is over for any process: all stop together."""
    return end is not None and any(gather(time.monotonic() >= end))


def _shown(scores: TaskScores) -> str:
    return ", ".join(f"{column} {value:g}" for column, value in scores.table.items()) or "no score"
