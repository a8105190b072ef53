"""Measures what a model can do on short contexts, with tasks of lm-evaluation-harness, each with its shots."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from operator import attrgetter
from typing import Any

from torch import nn

from evaluation.reports.publishing import publish
from evaluation.reports.reading import refuse_other_report
from evaluation.reports.report import BenchmarkReport, ReportRules
from evaluation.respondent import EvaluationRun
from evaluation.running.facts import IN_CHAT, model_facts, run_facts
from evaluation.running.harness import (
    asked_by_harness,
    chat_options,
    cut_notes,
    draws_from_asked,
    require_harness,
    task_manager,
    tasks_at_hand,
)
from evaluation.running.harness_results import predictions, scored_by, shares, shots_of
from evaluation.running.settings import RunSettings
from lit_longpo.errors import InputError
from lit_longpo.policy import PromptFormat
from lit_longpo.policy.fingerprint import model_fingerprint
from lit_longpo.ranges import MOST, check_numbers

log = logging.getLogger(__name__)

NAME = "short_context"
_BATCH = ", or type --short_context.batch_size"
# Settings of a run that the harness ignores, and what to type in their place.
_NOT_FOLLOWED = {
    "max_length": "",
    "max_minutes": ", or type --limit",
    "seed": "",
    "protocol": "",
    "batching.max_batch_tokens": _BATCH,
    "batching.prefill_chunk": _BATCH,
    "batching.min_shared": _BATCH,
}


class ShortContextRules(ReportRules):
    """Its reports: what one report lacks of the other is called forgetting."""

    name = NAME
    change = "Forgetting"


class ShortContext:
    """Tasks of lm-evaluation-harness.

    Args:
        tasks: solved examples in each prompt by the task's name, for example `{mmlu: 5, arc_challenge: 25}`; `None`
            means what the task says.
        include_path: folder of task YAML files of your own; then only those are known.
        batch_size: questions in one forward.
        apply_chat_template: wrap prompts in the tokenizer's chat template.

    Raises:
        MissingPackageError: the extra `lm-eval` is not installed.
        InputError: no task is named.
    """

    def __init__(
        self,
        tasks: Mapping[str, int | None],
        include_path: str | None = None,
        batch_size: int = 8,
        apply_chat_template: bool = False,
    ) -> None:
        require_harness("short contexts")
        if not tasks or any(shots is not None and not 0 <= shots <= MOST for shots in tasks.values()):
            raise InputError(
                f"expected shots by task, for example {{arc_challenge: 25}}, got {dict(tasks)}; correct `tasks`"
            )
        self.tasks, self.include_path = dict(tasks), include_path
        self.batch_size, self.apply_chat_template = batch_size, apply_chat_template
        check_numbers(self, "short_context.", batch_size=(1, MOST))


@dataclass
class ShortContextEvaluation(EvaluationRun):
    """Short contexts asked of one model; the report has every answer, so that two of them are compared by question.

    Of `settings` the `limit` counts (questions of each task at most, the first ones as the harness has them) and
    `tasks`, which of the named ones are asked.

    Args:
        short_context: which tasks.

    Raises:
        InputError: a setting that the harness does not follow, or a task that is not among the named ones.
    """

    short_context: ShortContext = field(kw_only=True)

    def __post_init__(self) -> None:
        _check_followed(self.settings)
        _ = self.shots

    @property
    def name(self) -> str:
        """Name of its reports."""
        return NAME

    @property
    def shots(self) -> dict[str, int | None]:
        """Solved examples by task, of the tasks that are asked.

        Raises:
            InputError: a chosen task is not among the named ones.
        """
        named, chosen = self.short_context.tasks, self.settings.tasks
        if unknown := [task for task in chosen or () if task not in named]:
            raise InputError(
                f"expected `tasks` among those of `short_context` ({', '.join(named)}), got {', '.join(unknown)}; type "
                f"--short_context.tasks '{{{unknown[0]}: 5}}' to ask others, with their shots"
            )
        return {task: number for task, number in named.items() if chosen is None or task in chosen}

    def prepare(self) -> str:
        """Download the tasks' data, without a model.

        Returns:
            What is ready.

        Raises:
            MissingFileError, InputError: as `run`.
        """
        from lm_eval.tasks import get_task_dict

        self.respondent.check_likelihoods()
        with tasks_at_hand():
            get_task_dict(list(self.shots), self._manager())
        return ", ".join(self.shots)

    def run(self) -> BenchmarkReport:
        """Ask the tasks' questions and write the report.

        Raises:
            MissingFileError: `include_path` is not there.
            InputError: a task is unknown, has fewer examples than shots, or has no score of single questions, the
                devices are not here, or a report of another model or of other settings lies in the output.
        """
        self.respondent.check_likelihoods()
        self.respondent.check(self.settings)
        manager = self._manager()
        if self.short_context.include_path is not None:  # the harness's own tasks have enough to choose from
            _check_shots(self.shots, manager)
        model, prompt_format = self.respondent.load()
        assert isinstance(model, nn.Module), "nobody else gives likelihoods"
        name = self.respondent.name(model_fingerprint(model, with_adapters=True))
        refuse_other_report(self.output / f"{NAME}-step0.json", name, self._asked)
        results, cut = self._results(model, prompt_format, manager)
        facts = run_facts(model_facts(model, prompt_format), prompt_format, self.command)
        return publish(self._report(name, results, facts, cut), self.output, self.loggers)

    def rescore(self) -> BenchmarkReport:
        """Nothing is stored that could be.

        Raises:
            InputError: always.
        """
        raise InputError("expected no --rescore with --short_context, whose answers are likelihoods; run it again")

    def _manager(self) -> Any:
        return task_manager(self.short_context.include_path, self.shots)

    def _results(
        self, model: nn.Module, prompt_format: PromptFormat, manager: Any
    ) -> tuple[dict[str, dict[str, Any]], tuple[str, ...]]:
        """What the harness says, task by task: each has shots of its own; and what it cut."""
        from lm_eval import simple_evaluate

        common = {"limit": self.settings.limit, **chat_options(prompt_format, self.short_context.apply_chat_template)}
        common |= {"bootstrap_iters": 0, "log_samples": True, "task_manager": manager}
        found = {}
        size, in_chat = self.short_context.batch_size, self.short_context.apply_chat_template
        with asked_by_harness(model, prompt_format, size, in_chat=in_chat) as judge:
            for task, shots in self.shots.items():
                log.info("%s: %s shots", task, "its own" if shots is None else shots)
                found[task] = simple_evaluate(model=judge, tasks=[task], num_fewshot=shots, **common)
            return found, cut_notes(judge)

    def _report(
        self,
        name: str,
        results: Mapping[str, Mapping[str, Any]],
        facts: Mapping[str, object],
        cut: tuple[str, ...],
    ) -> BenchmarkReport:
        subset = [f"the first {self.settings.limit} questions of each task"] if self.settings.limit else []
        shots = {task: shots_of(found) for task, found in results.items()}
        versions = {task: found["versions"].get(task) for task, found in results.items()}
        scored = {task: scored_by(found) for task, found in results.items()}
        return BenchmarkReport(
            NAME,
            0,
            tuple(predictions(results)),
            model=name,
            protocol=f"lm-evaluation-harness {metadata.version('lm_eval')}",
            deviations=(*subset, *cut),
            tables={task: shares(task, found) for task, found in results.items()},
            settings={
                "shots": shots,
                "scores of questions": scored,
                "task versions": versions,
                **facts,
                **self._asked,
            },
        )

    @property
    def _asked(self) -> dict[str, object]:
        """The settings that a report states, as they were typed."""
        chat = "every prompt" if self.short_context.apply_chat_template else "no prompt"
        return {"tasks": self.shots, "limit": self.settings.limit, IN_CHAT: chat}


def _check_shots(shots: Mapping[str, int | None], manager: Any) -> None:
    """Refuse tasks that have too few solved examples to show; the harness would end without a word on it."""
    from lm_eval.tasks import get_task_dict

    for task, number in shots.items():
        for part in _parts(get_task_dict([task], manager)):
            found = len(list(part.fewshot_docs() or ())) - draws_from_asked(part)  # a question never solves itself
            if number is not None and found < number:
                raise InputError(
                    f"expected {number} solved examples for {task}, got {max(found, 0)}; type "
                    f"--short_context.tasks '{{{task}: {max(found, 0)}}}', or give its data more"
                )


def _parts(tasks: Mapping[Any, Any]) -> Iterator[Any]:
    """Tasks, those of groups too."""
    for value in tasks.values():
        yield from _parts(value) if isinstance(value, Mapping) else [value]


def _check_followed(settings: RunSettings) -> None:
    """Refuse what the harness would not do."""
    usual = RunSettings()
    for name, instead in _NOT_FOLLOWED.items():
        value = attrgetter(name)(settings)
        if value != attrgetter(name)(usual):
            raise InputError(
                f"expected no --{name} with --short_context, whose prompts and questions are lm-evaluation-harness's, "
                f"got {value}; leave it out{instead}"
            )
