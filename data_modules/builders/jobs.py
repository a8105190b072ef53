"""Runs the recipes of many records at a time: each waits at its next requests, which are answered together."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Protocol

from data_modules.builders.generators.base import TextGenerator
from data_modules.builders.generators.requests import Completion, Request
from data_modules.builders.recipes.base import DroppedError, Steps, Workbench
from data_modules.builders.report import Outcome, Verdicts
from data_modules.records import PreferencePair
from lit_longpo.files.strict_json import RecordError
from lit_longpo.progress_bar import progress_bar

log = logging.getLogger(__name__)


class Answers(Protocol):
    """Where answers are kept: in a journal, or in memory in a dry run."""

    def __contains__(self, key: str) -> bool: ...
    def __getitem__(self, key: str) -> Completion: ...
    def append(self, key: str, completion: Completion) -> None: ...  # noqa: D102


class BuildProgress:
    """A bar with records done, answers, new tokens and the time that is left; on terminals, nothing elsewhere."""

    def __init__(self, total: int) -> None:
        self._bar = progress_bar("{task.fields[answers]} answers, {task.fields[tokens]} tokens")
        self._task = self._bar.add_task("building", total=total, answers=0, tokens=0)
        self._answers = self._tokens = 0

    def __enter__(self) -> "BuildProgress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def answer(self, completion: Completion) -> None:
        """One more answer came in."""
        self._answers += 1
        self._tokens += completion.new_tokens
        self._bar.update(self._task, answers=self._answers, tokens=self._tokens)

    def record(self) -> None:
        """One more record is done."""
        self._bar.advance(self._task)


@dataclass
class Job:
    """One record under way.

    Args:
        steps: the coroutine from record to pair and verdicts.
        waiting: requests it has stopped at.
        keys: of the answers it has used.
    """

    id: str
    steps: Steps[tuple[PreferencePair, Verdicts]]
    bench: Workbench
    waiting: list[Request] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    outcome: Outcome | None = None

    def advance(self, replies: list[Completion] | None) -> None:
        """Up to the next requests, or the end."""
        try:
            self.waiting = self.steps.send(replies)  # type: ignore[arg-type]
        except StopIteration as done:
            pair, verdicts = done.value
            self.outcome = Outcome(self.id, "pair", "", pair, self.bench.counts, verdicts)
        except DroppedError as reason:
            self.end("filtered", str(reason))
        except ImportError:
            raise  # a missing extra concerns every record
        except RecordError as error:
            self.end("filtered", f"not a pair: {str(error).removeprefix(f'{self.id}: ').partition(', got')[0]}")
        except Exception as error:  # one bad record must not cost the work on all others
            log.warning("record %s failed", self.id, exc_info=error)
            self.end("failed", f"{type(error).__name__}: {error}")

    def take(self, answers: Answers, failed: dict[str, Completion], model: str) -> None:
        """Give the waiting coroutine its answers, or end it with the first error."""
        keys = [request.key(model) for request in self.waiting]
        errors = [failed[key].error for key in keys if key in failed and key not in answers]
        if errors:
            self.end("failed", errors[0])
            return
        self.keys += keys
        replies = zip(self.waiting, (answers[key] for key in keys), strict=True)
        self.advance([replace(reply, request=request.id) for request, reply in replies])

    def end(self, status: Any, reason: str) -> None:
        """Without a pair."""
        self.steps.close()
        self.outcome = Outcome(self.id, status, reason, None, self.bench.counts)


def finish(
    jobs: Sequence[Job], generator: TextGenerator, model: str, answers: Answers, progress: BuildProgress | None = None
) -> None:
    """Answer all open requests of all jobs together, again and again, until every job has ended.

    Args:
        jobs: not started; those that have ended already are left alone.
        generator: who answers.
        model: what keys of answers name beside the request.
        answers: known ones are not asked again, new ones are added.
        progress: told of every new answer.
    """
    open_jobs = [job for job in jobs if job.outcome is None]
    for job in open_jobs:
        job.advance(None)
    while open_jobs := [job for job in open_jobs if job.outcome is None]:
        requests = [request for job in open_jobs for request in job.waiting]
        failed = _answer(requests, generator, model, answers, progress)
        for job in open_jobs:
            job.take(answers, failed, model)


def _answer(
    requests: Sequence[Request],
    generator: TextGenerator,
    model: str,
    answers: Answers,
    progress: BuildProgress | None,
) -> dict[str, Completion]:
    """Have all requests answered that have no stored answer; returns those that failed, by key.

    A batch with one missing answer is answered again as a whole: alone, the missing one could come
    out differently in its last digits.
    """
    keys = {request.id: request.key(model) for request in requests}
    unique = list({keys[request.id]: request for request in requests}.values())
    missing = [
        batch for batch in generator.batches(unique) if any(keys[request.id] not in answers for request in batch)
    ]
    failed = dict[str, Completion]()
    for completion in generator.answer(missing):
        key = keys[completion.request]
        if completion.error:
            failed[key] = completion
        answers.append(key, completion)
        if progress is not None:
            progress.answer(completion)
    return failed
