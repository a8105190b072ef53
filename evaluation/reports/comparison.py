"""Compares two reports of the same questions: paired differences with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.reports.comparable import Pair, check_comparable, check_same_questions, why_no_common_ids
from evaluation.reports.intervals import ClusteredScores, Estimate, estimate, estimate_mean_of, method
from evaluation.reports.pages import Page
from evaluation.reports.reading import load_checked_report
from evaluation.reports.report import BenchmarkReport, Prediction
from evaluation.reports.scalars import scalars
from evaluation.reports.table import Section, change_rows, interval, percent
from lit_longpo.errors import InputError, first_names

_HEADER = ("task", "examples", "a", "b", "b - a", "interval", "b better", "b worse")
_PROMPTS = ("prompt template", "question template", "in the chat template")  # settings; chat templates are the models'


@dataclass(frozen=True)
class PairedScores:
    """Paired scores of one task.

    Args:
        task: its name, or what the row sums up.
        before: mean score in the first report.
        after: mean score in the second report.
        difference: mean of the differences, second minus first.
        num_better: examples with a higher score in the second report.
        num_worse: examples with a lower one.
    """

    task: str
    before: float
    after: float
    difference: Estimate
    num_better: int
    num_worse: int

    @property
    def cells(self) -> tuple[str, ...]:
        """The row's cells, in percent and points."""
        return (
            *(self.task, f"{self.difference.num:,}", percent(self.before), percent(self.after)),
            *(f"{100 * self.difference.mean:+z.2f}", interval(self.difference)),
            *(f"{self.num_better:,}", f"{self.num_worse:,}"),
        )


@dataclass(frozen=True)
class Comparison:
    """What changed between two reports.

    Args:
        first: "a" of the table.
        second: "b" of the table.
        rows: one for each task, then those that sum up.
        only_first: ids that only the first report has, or counts: LongBench v2 leaves out empty responses.
        only_second: ids that only the second report has or counts.
        differing: what else differs, in words.
        method: how intervals are made, in words.
    """

    first: BenchmarkReport
    second: BenchmarkReport
    rows: tuple[PairedScores, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    differing: tuple[str, ...]
    method: str

    @property
    def title(self) -> str:
        """Heading of the comparison."""
        return f"{self.first.name}: b against a"

    @property
    def head(self) -> list[tuple[str, str]]:
        """Facts about both reports, and about examples that are in one of them only."""
        return [
            ("a", _described(self.first)),
            ("b", _described(self.second)),
            ("protocol", self.first.protocol or "not stated"),
            *((f"cut in {side}", text) for side, text in (("a", self.first.cut), ("b", self.second.cut)) if text),
            ("only in a", _listed(self.only_first)),
            ("only in b", _listed(self.only_second)),
            *(("differs", text) for text in self.differing or ("nothing else",)),
            *(("beware", text) for text in other_prompts(self.first, self.second)),
            *(("beware", text) for text in longer_answers(self.first, self.second)),
        ]

    @property
    def sections(self) -> list[Section]:
        """Differences, paired, then the official numbers of both."""
        note = f"Percent, and points for differences, which are paired by id. {self.method}"
        paired = Section(self.first.rules.change, _HEADER, [row.cells for row in self.rows], note)
        rows = change_rows(scalars(self.first), scalars(self.second))
        official = Section("Numbers of both reports", ("number", "a", "b", "b - a"), rows, "Of all examples of each.")
        return [paired, official]

    def markdown(self) -> str:
        """The comparison as Markdown: head and tables."""
        return Page(self.title, self.head, self.sections).markdown()


def compare_files(a: Path, b: Path) -> str:
    """Compare two reports that `BenchmarkReport.save` wrote.

    Raises:
        MissingFileError: a file is not there.
        InputError: a file is no report, or what `compare` refuses.
    """
    return compare(load_checked_report(a), load_checked_report(b)).markdown()


def compare(first: BenchmarkReport, second: BenchmarkReport) -> Comparison:
    """Paired differences over the examples that both reports have.

    Raises:
        InputError: the benchmarks, protocols or scores differ, an id does not mean the same question in both, or no
            id is in both.
    """
    check_comparable(first, second)
    before, after = _by_id(first), _by_id(second)
    pairs = [(before[name], after[name]) for name in before if name in after]
    if not pairs:
        raise InputError(f"expected ids that both reports have, got none; {why_no_common_ids(before, after)}")
    check_same_questions(pairs)
    return Comparison(
        first=first,
        second=second,
        rows=tuple(_rows(first.name, pairs)),
        only_first=tuple(name for name in before if name not in after),
        only_second=tuple(name for name in after if name not in before),
        differing=(*_differing(first, second), *_other_texts(pairs)),
        method=method(_differences(pairs)),
    )


def have_common(first: BenchmarkReport, second: BenchmarkReport) -> bool:
    """Whether any example that counts is in both."""
    return bool(_by_id(first).keys() & _by_id(second).keys())


def change(first: BenchmarkReport, second: BenchmarkReport) -> str:
    """The mean difference of all examples that both reports have, and its interval, in one line."""
    before, after = _by_id(first), _by_id(second)
    pairs = [(before[name], after[name]) for name in before if name in after]
    if not pairs:
        return "no example in both reports"
    last = compare(first, second).rows[-1].difference
    asked = f"{last.num:,} examples in {_differences(pairs).num_contexts:,} contexts"
    return f"{100 * last.mean:+z.1f} points (95% interval: {interval(last)}) over {asked}"


def other_prompts(first: BenchmarkReport, second: BenchmarkReport) -> list[str]:
    """A warning where the models were asked in other words, as a base and what was trained from it often are."""
    asked = {name: {report.settings.get(name) for report in (first, second)} for name in _PROMPTS}
    names = [name for name, values in asked.items() if len(values - {None}) == 2]
    if not names:
        return []
    return [
        f"another {' and '.join(names)}, so the difference is not the models' alone; ask both in the same words "
        "(--policy.template.user TEXT), or compare the reports that `fit` writes before and after training"
    ]


def longer_answers(first: BenchmarkReport, second: BenchmarkReport) -> list[str]:
    """Warnings about tasks whose sub-EM rises and whose F1 falls by a point or more, as longer answers make them do."""
    said = list[str]()
    for task in first.tables.keys() & second.tables.keys():
        changes = {
            name: second.tables[task][name] - first.tables[task][name]
            for name in ("sub_em", "f1")
            if name in first.tables[task] and name in second.tables[task]
        }
        if len(changes) == 2 and changes["sub_em"] >= 1 and changes["f1"] <= -1:
            words = " to ".join(f"{_mean_words(report, task):.1f}" for report in (first, second))
            said.append(
                f"{task}: sub_em {changes['sub_em']:+.1f} but f1 {changes['f1']:+.1f}; answers go from {words} words, "
                "and sub_em counts whatever contains a right answer: look at f1 and em"
            )
    return sorted(said)


def _mean_words(report: BenchmarkReport, task: str) -> float:
    counts = [len(item.prediction.split()) for item in report.counted if (item.task or report.name) == task]
    return sum(counts) / max(1, len(counts))


def _by_id(report: BenchmarkReport) -> dict[str, Prediction]:
    return {item.id: item for item in report.counted}


def _rows(name: str, pairs: Sequence[Pair]) -> list[PairedScores]:
    tasks: dict[str, list[Pair]] = {}
    for pair in pairs:
        tasks.setdefault(pair[0].task or name, []).append(pair)
    rows = [_row(task, items, estimate(_differences(items), task)) for task, items in tasks.items()]
    if len(tasks) == 1:
        return rows
    over_tasks = estimate_mean_of({task: _differences(items) for task, items in tasks.items()})
    before, after = (sum(getattr(row, side) for row in rows) / len(rows) for side in ("before", "after"))
    better, worse = (sum(getattr(row, side) for row in rows) for side in ("num_better", "num_worse"))
    return [
        *rows,
        PairedScores("mean of tasks", before, after, over_tasks, better, worse),
        _row("all examples", pairs, estimate(_differences(pairs))),
    ]


def _row(task: str, pairs: Sequence[Pair], difference: Estimate) -> PairedScores:
    gaps = _differences(pairs).scores
    before, after = (sum(pair[side].score for pair in pairs) / len(pairs) for side in (0, 1))
    return PairedScores(task, before, after, difference, sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps))


def _differences(pairs: Sequence[Pair]) -> ClusteredScores:
    """Second minus first, by context: an id is one question, so either report may know what it is about."""
    gaps = tuple(other.score - one.score for one, other in pairs)
    return ClusteredScores(gaps, tuple(one.context or other.context for one, other in pairs), least=-1.0)


def _differing(first: BenchmarkReport, second: BenchmarkReport) -> list[str]:
    """Settings that are not the same, and deviations that one report has alone."""
    one, other = first.settings, second.settings
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    said = [f"{name}: {one.get(name, 'not stated')} and {other.get(name, 'not stated')}" for name in names]
    alone = [
        "; ".join(text for text in side.deviations if text not in others.deviations) or "none"
        for side, others in ((first, second), (second, first))
    ]
    return said if alone == ["none", "none"] else [*said, f"deviations of one only: {alone[0]} and {alone[1]}"]


def _other_texts(pairs: Sequence[Pair]) -> list[str]:
    """How many questions have other contexts under the same id, as in files of two lengths; empty if none has."""
    named = [(one.context, other.context) for one, other in pairs if one.context and other.context]
    others = sum(one != other for one, other in named)
    return [f"the contexts of {others:,} of {len(named):,} questions"] if others else []


def _described(report: BenchmarkReport) -> str:
    return f"{report.model or 'model not stated'}, step {report.step:,}, {len(report.predictions):,} examples"


def _listed(ids: Sequence[str]) -> str:
    return f"{len(ids)} ids ({first_names(ids, 5)})" if ids else "no id"
