"""A column of a paper's table: which official numbers it is the mean of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from evaluation.benchmarks.answer_metric import Metric
from evaluation.metrics.answers import best_score
from evaluation.metrics.longbench import total
from evaluation.reports.grouping import by_task, official_parts
from evaluation.reports.intervals import ClusteredScores, Mean, Means, OfficialNumber
from evaluation.reports.report import BenchmarkReport, Prediction
from evaluation.reports.table import Section, means_section

Reports = Mapping[str, BenchmarkReport]


@dataclass(frozen=True)
class Cell:
    """One number of a report.

    Args:
        part: the paper's name of the benchmark.
        column: of the task's official table.
        group: name and value that the examples of that column share; empty where all have a part in it.
        metric: "official", or another score of the same answers.
    """

    part: str
    task: str
    column: str = "score"
    group: tuple[str, str] | None = None
    metric: Metric = "official"

    def number(self, reports: Reports) -> OfficialNumber | None:
        """The number and the scores behind it; `None` if it was not asked for."""
        report = reports.get(self.part)
        if report is None:
            return None
        if self.metric == "official":
            return official_parts(report, self.column, self._holds).get(self.task)
        return self._scored_anew(by_task(report).get(self.task, []))

    def _holds(self, item: Prediction) -> bool:
        return self.group is None or item.groups.get(self.group[0]) == self.group[1]

    def _scored_anew(self, items: Sequence[Prediction]) -> OfficialNumber | None:
        if self.metric == "official" or not items:
            return None
        scores = [best_score(self.metric, item.prediction, item.answers) for item in items]
        return OfficialNumber(total(scores), ClusteredScores(tuple(scores), tuple(item.context for item in items)))


def cells(part: str, *tasks: str, column: str = "score", metric: Metric = "official") -> tuple[Cell, ...]:
    """A cell of each task of a benchmark."""
    return tuple(Cell(part, task, column, metric=metric) for task in tasks)


@dataclass(frozen=True)
class Column:
    """One number of a paper's table: the plain mean over groups of the plain means of their cells.

    Args:
        label: as the paper heads it.
        groups: at least one, none empty.
    """

    label: str
    groups: tuple[tuple[Cell, ...], ...]

    @classmethod
    def of(cls, label: str, *members: Cell) -> "Column":
        """The plain mean of cells."""
        return cls(label, (members,))

    def missing(self, reports: Reports) -> list[str]:
        """Numbers of the column that the reports lack."""
        cells = chain.from_iterable(self.groups)
        return [f"{cell.part} {cell.task}" for cell in cells if cell.number(reports) is None]

    def mean(self, reports: Reports) -> Mean:
        """The mean of the rounded numbers; all of them have to be there."""
        shares = {cell: 1 / len(self.groups) / len(group) for group in self.groups for cell in group}
        numbers = {cell: cell.number(reports) for cell in shares}
        parts = {_name(cell): number for cell, number in numbers.items() if number is not None}
        return Mean(parts, {_name(cell): share for cell, share in shares.items()})


def with_mean(groups: Mapping[str, tuple[Cell, ...]], label: str) -> tuple[Column, ...]:
    """A column of each group, then the plain mean of all groups."""
    return (*(Column.of(name, *group) for name, group in groups.items()), Column(label, tuple(groups.values())))


def _name(cell: Cell) -> str:
    return "/".join((cell.part, cell.task, cell.column, cell.metric))


def columns_section(title: str, columns: Sequence[Column], reports: Reports, note: str) -> Section:
    """A paper's table: a row for each column that has all that it is the mean of; others are named."""
    missing = {column.label: column.missing(reports) for column in columns}
    means: Means = {column.label: column.mean(reports) for column in columns if not missing[column.label]}
    left_out = [f"{label} (without {', '.join(names)})" for label, names in missing.items() if names]
    lack = f" Left out, as something was not asked: {'; '.join(left_out)}." if left_out else ""
    return means_section(title, "column", means, note + lack)
