"""A titled table: what Markdown, the HTML page and the terminal show alike."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evaluation.reports.intervals import Estimate, Means, OfficialNumber
from lit_longpo.markdown import escape, table

ESTIMATE = ("examples", "mean", "interval")  # columns of `estimate_cells`


@dataclass(frozen=True)
class Section:
    """A titled table of texts.

    Args:
        rows: cells, each row as long as the header.
        note: a sentence below the heading.
        is_text: the columns hold prose, not numbers.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    is_text: bool = False

    def markdown(self) -> str:
        """Heading, note and table."""
        lines = "\n".join(table(self.header, self.rows, numbers=not self.is_text))
        return "\n\n".join(part for part in (f"## {escape(self.title)}", escape(self.note), lines) if part)

    def plain(self) -> dict[str, object]:
        """Title, header, rows and note, as JSON knows them."""
        rows = [list(row) for row in self.rows]
        return {"title": self.title, "header": list(self.header), "rows": rows, "note": self.note}


def percent(value: float) -> str:
    """A score between 0 and 1 in percent; a dash for none."""
    return "-" if math.isnan(value) else f"{100 * value:.2f}"


def official_cell(part: OfficialNumber | None) -> str:
    """A number of an official table; a dash where the task was not run."""
    return f"{part.value:.2f}" if part else "-"


def interval(value: Estimate) -> str:
    """Both ends in percent; a dash where there is none."""
    return "-" if math.isnan(value.low) else f"{100 * value.low:z.2f} to {100 * value.high:z.2f}"


def estimate_cells(value: Estimate) -> tuple[str, str, str]:
    """Number of examples, mean and interval."""
    return f"{value.num:,}", percent(value.mean), interval(value)


def change_rows(before: Mapping[str, float], after: Mapping[str, float]) -> list[tuple[str, str, str, str]]:
    """Scores that are in both, by their name below `benchmark/<title>/`: both in percent, and the points between."""
    return [
        (name.split("/", 2)[2], percent(value), percent(after[name]), f"{100 * (after[name] - value):+z.2f}")
        for name, value in before.items()
        if name in after
    ]


def means_section(title: str, label: str, means: Means, note: str) -> Section:
    """Means of official numbers, one a row; `label` heads their names."""
    rows = [(name, *estimate_cells(mean.estimate())) for name, mean in means.items()]
    return Section(title, (label, *ESTIMATE), rows, note)


def of_fewer_tasks(means: Means) -> str:
    """A sentence to end a note on means of all tasks, where some lack what others have; empty if none does."""
    every = dict.fromkeys(task for mean in means.values() for task in mean.parts)
    lacking = [f"{name} ({len(mean.parts)})" for name, mean in means.items() if len(mean.parts) < len(every)]
    return f" Not of all {len(every)} tasks, so not comparable: {', '.join(lacking)}." if lacking else ""
