"""Runs a recipe over a source: many records at a time, every answer on disk before it is used."""

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from data_modules.builders.checks.decontamination import Decontamination
from data_modules.builders.checks.verifiers import Verifier, combined, turns_of
from data_modules.builders.generators.base import Generator
from data_modules.builders.generators.requests import Completion, Request
from data_modules.builders.journal import open_journal
from data_modules.builders.progress import Progress
from data_modules.builders.recipes.base import DroppedError, Item, Recipe, Steps, Workbench
from data_modules.builders.report import BuildReport, Outcome
from data_modules.builders.sources.base import Source
from data_modules.builders.sources.documents import Unreadable
from data_modules.builders.sources.tokens import TextTokens
from data_modules.records import PreferencePair, QARecord, RecordError, parse_pair, write_pairs
from lit_longpo.policy import PolicyConfig

log = logging.getLogger(__name__)

Verdicts = tuple[tuple[str, bool | None], ...]
_FORMAT = 1  # of the folder; raised when older folders cannot be continued


class Answers(Protocol):
    """Where answers are kept: a journal, or memory in a dry run."""

    def __contains__(self, key: str) -> bool: ...
    def __getitem__(self, key: str) -> Completion: ...
    def append(self, key: str, completion: Completion) -> None: ...  # noqa: D102


@dataclass
class Build:
    """One build: from raw text to a file of pairs.

    Args:
        source: what pairs are built from.
        recipe: how.
        generator: who answers.
        policy: the model whose tokenizer measures and whose template lays prompts out, as in `fit`;
            a local generator runs it.
        output: folder of the pairs, the report and the answers.
        verifiers: label every pair; `fit` can leave out what they refuse.
        decontamination: evaluation files that no pair may overlap with.
        seed: of everything drawn.
        window: records under way at a time.
        limit: at most this many records; a later run with a higher limit goes on.
    """

    source: Source
    recipe: Recipe
    generator: Generator
    policy: PolicyConfig
    output: Path
    verifiers: Sequence[Verifier] = ()
    decontamination: Decontamination | None = None
    seed: int = 0
    window: int = 16
    limit: int | None = None
    tokens: TextTokens = field(init=False)
    _model: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.window < 1 or (self.limit is not None and self.limit < 1):
            raise ValueError(f"expected window and limit of at least 1, got {self.window} and {self.limit}; raise them")
        self.tokens = TextTokens(self.policy.prompt_format())
        # Settings only: what the model is made of stands in the manifest, of which a folder has one.
        self._model = json.dumps(describe(self.generator), sort_keys=True)

    @property
    def pairs_file(self) -> Path:
        """Where the pairs go."""
        return self.output / "pairs.jsonl"

    @property
    def finished(self) -> bool:
        """Whether a run has come to its end in `output`."""
        return self.pairs_file.exists() and (self.output / "report.json").exists()

    @property
    def num_failed(self) -> int:
        """Records of a finished run that ended with an error; another run tries them again."""
        told = json.loads((self.output / "report.json").read_text())
        return int(told["statuses"].get("failed", 0))

    def run(self) -> BuildReport:
        """Build, or continue; the pairs file is written when all records are done.

        Raises:
            ValueError: `output` holds another build.
            ConnectionError: the server does not answer; run again to go on.
        """
        manifest = {**self.settings(), "model": self.generator.open(self.policy)}
        report = BuildReport()
        try:
            with open_journal(self.output, manifest) as answers, Progress(self._count()) as progress:
                draft = self.output / "outcomes.partial"
                with open(draft, "w", encoding="utf-8") as lines:
                    write_pairs(self.pairs_file, self._told(answers, report, progress, lines))
                draft.replace(self.output / "outcomes.jsonl")
        finally:
            self.generator.close()
        report.write(self.output)
        self._tell(report)
        return report

    def settings(self) -> dict[str, Any]:
        """What the pairs depend on beside the model, input files' contents included."""
        names = ("source", "recipe", "generator", "verifiers", "decontamination", "seed", "window")
        contents = [self.source.content(), self.decontamination.content() if self.decontamination else ""]
        layout = [self.tokens.identity(), describe(self.policy.template)]
        return {"format": _FORMAT, "contents": contents, "layout": layout} | {
            name: describe(getattr(self, name)) for name in names
        }

    def outcomes(self, answers: Answers, progress: Progress | None = None) -> Iterator[tuple[Outcome, list[str]]]:
        """What becomes of every record, in order, with the keys of the answers it used."""
        pool, seen = self.source.pool(), set[str]()
        items = iter(islice(self.source.items(self.tokens), self.limit))
        while window := list(islice(items, self.window)):
            jobs = [self._job(item, pool, seen) for item in window]
            self._finish([job for job in jobs if job.outcome is None], answers, progress)
            for job in jobs:
                assert job.outcome is not None
                yield job.outcome, job.keys

    def _told(self, answers: Answers, report: BuildReport, progress: Progress, lines: Any) -> Iterator[PreferencePair]:
        """Pairs of the outcomes, each counted and written down on the way."""
        for outcome, keys in self.outcomes(answers, progress):
            report.add(outcome, self.tokens.count)
            for key in keys:
                used = answers[key]
                report.usage.update({"requests": 1, "prompt tokens": used.prompt_tokens, "new tokens": used.new_tokens})
            row = {"id": outcome.id, "status": outcome.status, "reason": outcome.reason, "answers": keys}
            lines.write(json.dumps({**row, "verdicts": dict(outcome.verdicts)}) + "\n")
            progress.record()
            if outcome.pair is not None:
                yield outcome.pair

    def _count(self) -> int:
        return sum(1 for _ in islice(self.source.items(self.tokens), self.limit))

    def _job(self, item: Item | Unreadable, pool: Sequence[Any], seen: set[str]) -> "_Job":
        bench = Workbench(item.id, self.tokens, self.policy.template, self.seed, pool)
        job = _Job(item.id, self._steps(item, bench), bench)
        if isinstance(item, Unreadable):
            job.end("failed", item.error)
        elif item.id in seen:
            job.end("failed", f"expected an id not used before, got {item.id!r} again")
        elif not isinstance(item, self.recipe.accepts):
            wanted = " or ".join(kind.__name__ for kind in self.recipe.accepts)
            raise TypeError(
                f"expected {wanted} from the source, got {type(item).__name__}: {type(self.recipe).__name__} cannot be "
                f"fed by {type(self.source).__name__}; set another `source`"
            )
        seen.add(item.id)
        return job

    def _steps(self, item: Item | Unreadable, bench: Workbench) -> Steps[tuple[PreferencePair, Verdicts]]:
        """Recipe, decontamination and verifiers of one record."""
        if self.decontamination and isinstance(item, QARecord):  # before anything is paid for
            self.decontamination.check(item.question, item.answers, bench.counts)
        pair = yield from self.recipe.steps(item, bench)
        if self.decontamination and not isinstance(item, QARecord):
            for turn in turns_of(pair):
                self.decontamination.check(turn.question, (turn.chosen,), bench.counts)
        verdicts = list[tuple[str, bool | None]]()
        for verifier in self.verifiers:
            verdicts.append((type(verifier).__name__, (yield from verifier.steps(pair, bench))))
        pair = replace(pair, verified=combined([verdict for _, verdict in verdicts]))
        parse_pair(json.loads(json.dumps(_plain(pair))), bench.item)  # what the reader would refuse must not stop all
        return pair, tuple(verdicts)

    def _finish(self, jobs: list["_Job"], answers: Answers, progress: Progress | None) -> None:
        """Answer all open requests of all jobs together, again and again, until every job has ended."""
        for job in jobs:
            job.advance(None)
        while jobs := [job for job in jobs if job.outcome is None]:
            failed = self._answer([request for job in jobs for request in job.waiting], answers, progress)
            for job in jobs:
                job.take(answers, failed, self._model)

    def _answer(
        self, requests: Sequence[Request], answers: Answers, progress: Progress | None
    ) -> dict[str, Completion]:
        """Get what is not there yet; returns requests that failed, by key.

        A batch with one missing answer is answered again as a whole: alone, the missing one could come
        out differently in its last digits.
        """
        keys = {request.id: request.key(self._model) for request in requests}
        unique = list({keys[request.id]: request for request in requests}.values())
        missing = [
            batch
            for batch in self.generator.batches(unique)
            if any(keys[request.id] not in answers for request in batch)
        ]
        failed = dict[str, Completion]()
        for completion in self.generator.answer(missing):
            key = keys[completion.request]
            if completion.error:
                failed[key] = completion
            answers.append(key, completion)
            if progress is not None:
                progress.answer(completion)
        return failed

    def _tell(self, report: BuildReport) -> None:
        counts = ", ".join(f"{report.statuses[name]} {name}" for name in ("pair", "filtered", "failed"))
        log.info("%d records: %s; %s and report.md lie in %s", report.records, counts, "pairs.jsonl", self.output)
        if report.statuses["failed"]:
            log.warning(
                "%d records failed; report.json says why, the same command tries them again", len(report.errors)
            )
        if not report.statuses["pair"]:
            log.warning("no pair was built: `fit` needs at least one; report.md lists the reasons")


@dataclass
class _Job:
    """One record under way."""

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


def describe(value: Any) -> Any:
    """Settings as JSON: class names and fields; fields marked `runtime` change no result and are left out."""
    if is_dataclass(value) and not isinstance(value, type):
        kept = [item for item in fields(value) if item.init and not item.metadata.get("runtime")]
        return {"class": type(value).__name__} | {item.name: describe(getattr(value, item.name)) for item in kept}
    if isinstance(value, dict):
        return {str(name): describe(item) for name, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [describe(item) for item in value]
    if isinstance(value, str | int | float | bool | None):
        return value
    if isinstance(value, Path):
        return str(value)
    settings = {name: describe(item) for name, item in vars(value).items() if not name.startswith("_")}
    return {"class": type(value).__name__} | settings  # somebody's own class


def _plain(pair: PreferencePair) -> dict[str, Any]:
    """The pair as its file will hold it."""
    plain = {item.name: getattr(pair, item.name) for item in fields(pair)}
    return {**plain, "turns": [vars(turn) for turn in pair.turns]}
