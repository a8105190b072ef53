"""Runs a recipe over a source: many records at a time, every answer on disk before it is used."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from data_modules.builders.checks.decontamination import Decontamination
from data_modules.builders.checks.verifiers import Verdict, Verifier, combined
from data_modules.builders.generators.base import TextGenerator
from data_modules.builders.jobs import Answers, BuildProgress, Job, finish
from data_modules.builders.journal import describe, open_journal
from data_modules.builders.recipes.base import CHOSEN_CUT_OFF, REJECTED_HOLDS_GOLD, Recipe, Steps, Workbench
from data_modules.builders.report import BuildReport, Outcome, Verdicts
from data_modules.builders.sources.base import Item, Repeats, Source, Unreadable
from data_modules.builders.sources.tokens import TextTokens
from data_modules.records import Passage, PreferencePair, QARecord, parse_pair, write_pairs
from lit_longpo.errors import InputError, InputTypeError
from lit_longpo.files.checksums import CHECKSUMS, changed, write_checksums
from lit_longpo.files.stored import check_fields, stored_object
from lit_longpo.files.storing import check_writable, storing
from lit_longpo.files.strict_json import instead
from lit_longpo.policy import PolicyConfig
from lit_longpo.ranges import LARGEST, MOST, MOST_TOKENS, check_numbers

log = logging.getLogger(__name__)

_WRITTEN = ("pairs.jsonl", "outcomes.jsonl", "report.json")  # at the end, whole
_ELSEWHERE = "--output FOLDER (in `fit`: --data.build.cache FOLDER)"
# What the terminal says of counts in the report, and what to type.
_ADVICE = {
    CHOSEN_CUT_OFF: "`fit` would teach the model to end there, in the middle of an answer; raise max_new_tokens of the "
    "recipe, or ask for shorter answers in its instruction",
    REJECTED_HOLDS_GOLD: "the judge scores them lower for what they say beside it, and `fit` would teach the model not "
    "to give them; unless that is meant, type --recipe.judge ContainsGold",
}
_FORMAT = 1  # of the folder; raised when older folders cannot be continued


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
        max_margin: leave out pairs whose chosen answer the policy finds likelier by more than this already, in nats
            per token on the short context; `None` keeps all.
    """

    source: Source
    recipe: Recipe
    generator: TextGenerator
    policy: PolicyConfig
    output: Path
    verifiers: Sequence[Verifier] = ()
    decontamination: Decontamination | None = None
    seed: int = 0
    window: int = 16
    limit: int | None = None
    max_margin: float | None = None
    tokens: TextTokens = field(init=False)
    _model: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_numbers(self, "", window=(1, MOST), limit=(1, MOST_TOKENS), max_margin=(-LARGEST, LARGEST))
        if self.max_margin is not None and type(self.generator).margin is TextGenerator.margin:
            raise InputError(
                f"expected a generator that tells how likely an answer is for `max_margin: {self.max_margin:g}`, got "
                f"{type(self.generator).__name__}; type --generator TransformersGenerator, or --max_margin null"
            )
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
        return int(self._report({"statuses": dict[str, int]})["statuses"].get("failed", 0))

    def record_counts(self) -> tuple[int, dict[str, int], dict[str, int]]:
        """What became of the records of a finished run: their number, those without a pair by reason, and failures."""
        report = self._report({"records": int, "statuses": dict[str, int], "reasons": dict[str, int]})
        return report["records"], report["reasons"], {"failed in the build": report["statuses"].get("failed", 0)}

    def _report(self, needed: dict[str, Any]) -> dict[str, Any]:
        """The counts in a finished run's report."""
        where, advice = self.output / "report.json", f"delete {self.output / 'report.json'}, and type the same again"
        report = stored_object(where, advice)
        with instead(advice):
            check_fields(report, needed, str(where))
        return report

    @property
    def damaged(self) -> str | None:
        """The file of a finished run that has changed since it was written; `None` if none has."""
        return next((name for name in _WRITTEN if changed(self.output / name)), None)

    def num_records(self) -> int:
        """Records of the source, `limit` at most; reads it and the files of `decontamination` once.

        So what is wrong with one of them is said before anybody is asked anything.
        """
        if self.decontamination is not None:
            self.decontamination.read()
        return sum(1 for _ in islice(self.source.items(self.tokens), self.limit))

    def run(self) -> BuildReport:
        """Build, or continue; the pairs file is written when all records are done.

        Raises:
            InputError: `output` holds another build.
            UnreachableError: the server does not answer; run again to go on.
        """
        num_records = self.num_records()
        check_writable(self.output, _ELSEWHERE)
        with storing(self.output, _ELSEWHERE):
            return self._built(num_records)

    def _built(self, num_records: int) -> BuildReport:
        self.recipe.open()
        for verifier in self.verifiers:
            verifier.open(self.policy)
        reads = {"tokenizer or chat template": text} if (text := self.generator.reads(self.policy)) else {}
        manifest = {**self.settings(), "model": self.generator.open(self.policy), **reads}
        report = BuildReport()
        try:
            with open_journal(self.output, manifest) as answers, BuildProgress(num_records) as progress:
                draft = self.output / "outcomes.partial"
                with open(draft, "w", encoding="utf-8") as lines:
                    write_pairs(self.pairs_file, self._pairs(answers, report, progress, lines))
                draft.replace(self.output / "outcomes.jsonl")
        finally:
            self.generator.close()
        report.check(num_records)
        report.write(self.output)
        write_checksums(self.output, _WRITTEN)
        self._log(report)
        return report

    def settings(self) -> dict[str, Any]:
        """What the pairs depend on beside the model, input files' contents included."""
        names = ("source", "recipe", "generator", "verifiers", "decontamination", "seed", "window")
        contents = [self.source.content(), self.decontamination.content() if self.decontamination else ""]
        layout = [self.tokens.identity(), describe(self.policy.template)]
        margin = {} if self.max_margin is None else {"max_margin": self.max_margin}
        return {"format": _FORMAT, "contents": contents, "layout": layout, **margin} | {
            name: describe(getattr(self, name)) for name in names
        }

    def outcomes(self, answers: Answers, progress: BuildProgress | None = None) -> Iterator[tuple[Outcome, list[str]]]:
        """What becomes of every record, in order, with the keys of the answers it used."""
        pool, repeats = self.source.pool(), Repeats()
        items = iter(islice(self.source.items(self.tokens), self.limit))
        while window := list(islice(items, self.window)):
            jobs = [self._job(item, pool, repeats) for item in window]
            finish(jobs, self.generator, self._model, answers, progress)
            for job in jobs:
                assert job.outcome is not None
                yield job.outcome, job.keys

    def _pairs(
        self, answers: Answers, report: BuildReport, progress: BuildProgress, lines: TextIO
    ) -> Iterator[PreferencePair]:
        """Pairs of the outcomes, each counted and written down on the way."""
        for found, keys in self.outcomes(answers, progress):
            outcome = self._hard_enough(found)
            report.add(outcome, self.tokens.count)
            report.add_usage(answers[key] for key in keys)
            lines.write(json.dumps(outcome.as_row(keys)) + "\n")
            progress.record()
            if outcome.pair is not None:
                yield outcome.pair
        (self.output / CHECKSUMS).unlink(missing_ok=True)  # of the files that are replaced now

    def _hard_enough(self, outcome: Outcome) -> Outcome:
        """The outcome with the policy's margin, and without its pair if the policy finds that too easy."""
        if outcome.pair is None or (margin := self.generator.margin(outcome.pair)) is None:
            return outcome
        outcome = replace(outcome, margin=margin)
        if self.max_margin is None or margin <= self.max_margin:
            return outcome
        return replace(outcome, status="filtered", reason="the policy is surer of chosen than max_margin", pair=None)

    def _job(self, item: Item | Unreadable, pool: Sequence[Passage], repeats: Repeats) -> Job:
        """The record's job; ended at once if the record cannot be used, or was there before."""
        is_used = repeats.used(item.id)
        opened = self.generator.gives_thoughts and self.tokens.prompt_format.opens_thoughts
        bench = Workbench(item.id, self.tokens, self.policy.template, self.seed, pool, opened=opened)
        job = Job(item.id, self._steps(item, bench), bench)
        if isinstance(item, Unreadable):
            job.end("failed", item.error)
        elif is_used:
            job.end("failed", f"expected an id not used before, got {item.id!r} again")
        elif not isinstance(item, self.recipe.accepts):
            kinds = " or ".join(kind.__name__ for kind in self.recipe.accepts)
            raise InputTypeError(
                f"expected {kinds} from the source, got {type(item).__name__}: {type(self.recipe).__name__} cannot be "
                f"fed by {type(self.source).__name__}; set another `source`, as QAFiles gives questions (QARecord) and "
                "DocumentFiles documents"
            )
        elif again := repeats.said(item):
            job.end("filtered", again)
        return job

    def _steps(self, item: Item | Unreadable, bench: Workbench) -> Steps[tuple[PreferencePair, Verdicts]]:
        """Recipe, decontamination and verifiers of one record."""
        if self.decontamination and isinstance(item, QARecord):  # before anything is paid for
            self.decontamination.check(item.question, item.answers, bench.counts)
        pair = yield from self.recipe.steps(item, bench)
        if self.decontamination and not isinstance(item, QARecord):
            for turn in pair.all_turns:
                self.decontamination.check(self.recipe.asked(turn.question), (bench.said(turn.chosen),), bench.counts)
        verdicts = list[tuple[str, Verdict]]()
        for verifier in self.verifiers:
            verdicts.append((type(verifier).__name__, (yield from verifier.steps(pair, bench))))
        pair = replace(pair, verified=combined([verdict for _, verdict in verdicts]))
        parse_pair(json.loads(json.dumps(asdict(pair))), bench.item)  # what the reader would refuse must not stop all
        return pair, tuple(verdicts)

    def _log(self, report: BuildReport) -> None:
        log.info("%s; pairs.jsonl and report.md are in %s", report.line(), self.output)
        difficulty = report.difficulty
        if difficulty is not None:
            log.info("the policy already ranks %.0f %% of the pairs right", 100 * difficulty.ranked_right)
        if report.statuses["failed"]:
            log.warning(
                "%d records failed; report.json says why, and the same command tries them again", len(report.errors)
            )
        for name, advice in _ADVICE.items():
            if number := report.candidates[name]:
                log.warning("%d %s: %s", number, name, advice)
        if not report.statuses["pair"]:
            log.warning("no pair was built: `fit` needs at least one; report.md lists the reasons")
