"""What became of every record: counts that add up, and what the pairs look like; JSON and Markdown."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from data_modules.builders.checks.verifiers import Verdict, wilson
from data_modules.builders.generators.requests import Completion
from data_modules.records import PreferencePair
from lit_longpo.errors import LostRecordsError
from lit_longpo.files.stored import write_json
from lit_longpo.markdown import table
from lit_longpo.training.difficulty import Difficulty

Status = Literal["pair", "filtered", "failed"]
Verdicts = tuple[tuple[str, Verdict], ...]  # (verifier, what it said)


@dataclass(frozen=True)
class Outcome:
    """What became of one record.

    Args:
        status: a pair was made, there was none to make (filtered), or something went wrong (failed).
        reason: of filtered and failed records.
        counts: what happened to candidates on the way.
        verdicts: what each verifier said.
        margin: by how much the policy finds chosen likelier, in nats per token; `None` if nobody can tell.
    """

    id: str
    status: Status
    reason: str = ""
    pair: PreferencePair | None = None
    counts: Counter[str] = field(default_factory=Counter)
    verdicts: Verdicts = ()
    margin: float | None = None

    def as_row(self, answers: list[str]) -> dict[str, Any]:
        """The line of `outcomes.jsonl`, with the keys of the answers that were used."""
        row = {"id": self.id, "status": self.status, "reason": self.reason}
        margin = {} if self.margin is None else {"margin": self.margin}
        return {**row, "answers": answers, "verdicts": dict(self.verdicts), **margin}


@dataclass
class BuildReport:
    """Sums over outcomes.

    Args:
        records: input records, bad ones included.
        statuses: pair, filtered and failed; together `records`.
        reasons: of filtered records.
        errors: record -> what went wrong, of failed records.
        candidates: what happened to candidates on the way to pairs.
        verdicts: verifier -> counts of better, worse and undecided.
        lengths: what -> tokens, one number for each text.
        ratios: tokens of short by tokens of long context, one for each turn.
        depths: middle of every supporting span, 0 for the start of the long context, 1 for its end.
        usage: requests, prompt tokens and new tokens of this build's answers.
        margins: by how much the policy, if it is the generator, finds chosen likelier on the short context, one number
            for each pair, in nats per token.
    """

    records: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    errors: dict[str, str] = field(default_factory=dict)
    candidates: Counter[str] = field(default_factory=Counter)
    verdicts: dict[str, Counter[str]] = field(default_factory=dict)
    lengths: dict[str, list[int]] = field(default_factory=dict)
    ratios: list[float] = field(default_factory=list)
    depths: list[float] = field(default_factory=list)
    usage: Counter[str] = field(default_factory=Counter)
    margins: list[float] = field(default_factory=list)

    def add(self, outcome: Outcome, count_tokens: Callable[[str], int]) -> None:
        """Count one record in."""
        self.records += 1
        self.statuses[outcome.status] += 1
        self.candidates.update(outcome.counts)
        if outcome.status == "filtered":
            self.reasons[outcome.reason] += 1
        if outcome.status == "failed":
            self.errors[outcome.id] = outcome.reason
        for name, verdict in outcome.verdicts:
            self.verdicts.setdefault(name, Counter())[_VERDICTS[verdict]] += 1
        if outcome.pair is not None:
            self._measure(outcome.pair, count_tokens)
            self.margins += [] if outcome.margin is None else [outcome.margin]

    def add_usage(self, answers: Iterable[Completion]) -> None:
        """Count the answers that a record has used."""
        for answer in answers:
            self.usage.update({"requests": 1, "prompt tokens": answer.prompt_tokens, "new tokens": answer.new_tokens})

    def _measure(self, pair: PreferencePair, count: Callable[[str], int]) -> None:
        long = count(pair.long_context)
        self._length("long context", [long])
        for turn in pair.all_turns:
            short = count(turn.short_context)
            self.ratios.append(short / max(1, long))
            self._length("short context", [short])
            self._length("chosen", [count(turn.chosen)])
            self._length("rejected", map(count, turn.rejected))
        self._length("turns", [1 + len(pair.turns)])
        size = max(1, len(pair.long_context))
        self.depths += [(start + end) / 2 / size for start, end in pair.supporting]

    def _length(self, name: str, values: Iterable[int]) -> None:
        self.lengths.setdefault(name, []).extend(values)

    def line(self) -> str:
        """What became of the records, in words."""
        reasons = "; ".join(f"{reason}: {count}" for reason, count in self.reasons.items())
        pair, filtered, failed = (f"{self.statuses[name]} {name}" for name in ("pair", "filtered", "failed"))
        return f"records: {self.records} read = {pair} + {filtered}{f' ({reasons})' if reasons else ''} + {failed}"

    def check(self, num_records: int) -> None:
        """Compare what became of the records with how many were read.

        Raises:
            LostRecordsError: records are lost or doubled.
        """
        filtered, ended = self.reasons.total(), self.statuses.total()
        if not num_records == self.records == ended or filtered != self.statuses["filtered"]:
            raise LostRecordsError(
                f"records are lost or doubled: {num_records} read, {self.records} counted, {ended} ended, "
                f"{self.statuses['filtered']} filtered, of which {filtered} for a reason; please report this"
            )

    def flip_rate(self, verifier: str) -> tuple[float, float, float]:
        """Share of decided pairs whose rejected answer is better, and its 95 % confidence interval."""
        counts = self.verdicts[verifier]
        decided = counts["better"] + counts["worse"]
        return (counts["worse"] / decided if decided else 0.0, *wilson(counts["worse"], decided))

    @property
    def difficulty(self) -> Difficulty | None:
        """How hard the pairs are for the policy; `None` where it did not answer itself, or there is no pair."""
        unit = "log-probability per token on the short context, nats"
        return Difficulty(tuple(self.margins), unit) if self.margins else None

    def as_json(self) -> dict[str, Any]:
        """Everything, with flip rates."""
        flips = {name: dict(zip(("rate", "low", "high"), self.flip_rate(name), strict=True)) for name in self.verdicts}
        difficulty = None if self.difficulty is None else self.difficulty.as_json()
        return {**vars(self), "flip_rate": flips, "difficulty": difficulty}

    def as_markdown(self) -> str:
        """The report as Markdown."""
        lines = ["# Build report", "", f"{self.records} records: {_counts(self.statuses)}.", ""]
        lines += _counted("Filtered", self.reasons) + _counted("Candidates on the way", self.candidates)
        lines += _counted("Failed", Counter(self.errors.values())) + self._verdict_lines()
        lines += self._difficulty_lines()
        for name, values in self.lengths.items():
            lines += _histogram(f"Tokens: {name}" if name != "turns" else "Turns of a pair", values)
        if self.ratios:
            lines += [f"Short context by long context: {sum(self.ratios) / len(self.ratios):.3f} on average.", ""]
        if self.depths:
            tenths = Counter(min(9, int(depth * 10)) for depth in self.depths)
            rows = [(f"{tenth * 10}-{tenth * 10 + 10} %", tenths[tenth]) for tenth in range(10)]
            lines += _section("Where supporting text lies in the long context", table(("depth", "spans"), rows))
        return "\n".join([*lines, f"Answers: {_counts(self.usage)}.", ""])

    def write(self, folder: Path) -> None:
        """Write `report.json` and `report.md`."""
        (folder / "report.md").write_text(self.as_markdown(), encoding="utf-8")
        write_json(folder / "report.json", self.as_json(), indent=2)  # it says that the build is finished

    def _verdict_lines(self) -> list[str]:
        if not self.verdicts:
            return []
        rows = []
        for name, counts in self.verdicts.items():
            rate, low, high = self.flip_rate(name)
            numbers = [counts[verdict] for verdict in _VERDICTS.values()]
            rows.append((name, *numbers, f"{rate:.1%}", f"{low:.1%} - {high:.1%}"))
        header = ("verifier", *_VERDICTS.values(), "flip rate", "95 % interval")
        return _section("Is chosen better than rejected?", table(header, rows))

    def _difficulty_lines(self) -> list[str]:
        difficulty = self.difficulty
        if difficulty is None:
            return []
        found = difficulty.as_json()
        summary = (
            f"The policy ranks {difficulty.ranked_right:.1%} of {found['pairs']} pairs right before any training "
            f"({found['measure']}; median margin {found['median_margin']:.2f})."
        )
        if difficulty.is_easy:
            summary += " Nearly all: preferring them more teaches little; more temperatures find other mistakes."
        rows = table(("margin", "pairs"), found["margins"].items())
        return _section("How hard are the pairs?", [summary, "", *rows])


_VERDICTS = {True: "better", False: "worse", None: "undecided"}


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counter.most_common() if count) or "none"


def _counted(title: str, counter: Counter[str]) -> list[str]:
    rows = [(name, count) for name, count in counter.most_common() if count]
    return _section(title, table(("reason", "count"), rows)) if rows else []


def _section(title: str, lines: list[str]) -> list[str]:
    return [f"## {title}", "", *lines, ""]


def _histogram(title: str, values: list[int]) -> list[str]:
    """Counts by doubling ranges, and the extremes."""
    ordered = sorted(values)
    buckets = Counter(value.bit_length() for value in values)
    summary = f"shortest {ordered[0]:,}, median {ordered[len(ordered) // 2]:,}, longest {ordered[-1]:,}"
    rows = [(f"{(1 << size) >> 1:,} - {(1 << size) - 1:,}", buckets[size]) for size in sorted(buckets)]
    return _section(title, [f"{summary.capitalize()}.", "", *table(("range", "texts"), rows)])
