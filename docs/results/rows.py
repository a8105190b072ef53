"""Stored results of one cell: means over its seeds, paired differences with intervals over contexts."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from evaluation.reports.intervals import ClusteredScores, Estimate, estimate
from results.outcomes import Outcome

Key = tuple[str, str, int]  # length, group, number of a question


@dataclass(frozen=True)
class Row:
    """All seeds of one cell."""

    name: str
    outcomes: tuple[Outcome, ...]

    def scores(self, lengths: Iterable[str] | None = None) -> dict[Key, float]:
        """Of every question, the mean over seeds."""
        tables = [item.scores for item in self.outcomes]
        return {
            (length, group, number): fmean(float(table[length][group][number]) for table in tables)
            for length in (tables[0] if lengths is None else lengths)
            for group, digits in tables[0][length].items()
            for number in range(len(digits))
        }

    def f1(self, lengths: Iterable[str]) -> dict[Key, float]:
        """The same by F1."""
        tables = [item.f1 for item in self.outcomes]
        values = {
            (length, group, number): [float(table[length][group].split()[number]) / 100 for table in tables]
            for length in lengths
            for group, words in tables[0][length].items()
            for number in range(len(words.split()))
        }
        return {key: fmean(each) for key, each in values.items()}

    def mean(self, lengths: Iterable[str]) -> float:
        """Percent, the mean of the lengths."""
        return fmean(100 * fmean(self.scores([length]).values()) for length in lengths)

    def other(self, name: str, lengths: Iterable[str]) -> float:
        """Percent by another score than the questions', "f1" or "em", the mean of the lengths and over seeds."""
        return fmean(item.means[length][name] for length in lengths for item in self.outcomes)

    def cost(self, *names: str) -> float | None:
        """The mean over seeds of a sum of costs; `None` without a training."""
        if not self.outcomes[0].costs:
            return None
        return fmean(sum(item.costs[name] for name in names) for item in self.outcomes)


Score = Callable[[Row, Sequence[str]], dict[Key, float]]


def rows_of(outcomes: Mapping[str, Outcome]) -> dict[str, Row]:
    """Results of one cell's seeds together."""
    found = dict[str, list[Outcome]]()
    for item in outcomes.values():
        if item.scores:
            found.setdefault(item.cell, []).append(item)
    return {name: Row(name, tuple(sorted(items, key=lambda item: item.seed))) for name, items in found.items()}


def difference(row: Row, other: Row, lengths: Sequence[str], *, shared: bool, score: Score = Row.scores) -> Estimate:
    """Mean paired difference over questions, row minus other, with a bootstrap over contexts.

    Args:
        row: of several seeds.
        other: likewise; of seeds that both have, if there are any.
        lengths: whose questions count.
        shared: whether questions of one group share a context, whatever the length; else each is its own.
        score: what each question has, sub-EM or F1.
    """
    seeds = common_seeds(row, other)
    one, two = (score(_of_seeds(item, seeds), lengths) for item in (row, other))
    keys = [key for key in one if key in two]
    gaps = tuple(one[key] - two[key] for key in keys)
    return estimate(ClusteredScores(gaps, tuple(group if shared else "" for _, group, _ in keys), least=-1.0))


def common_seeds(row: Row, other: Row) -> set[int]:
    """Seeds that both have."""
    return {item.seed for item in row.outcomes} & {item.seed for item in other.outcomes}


def _of_seeds(row: Row, seeds: set[int]) -> Row:
    kept = tuple(item for item in row.outcomes if item.seed in seeds)
    return Row(row.name, kept or row.outcomes)
