"""Reports in a few lines: for the terminal and for TensorBoard's text page."""

from rich.table import Table

from evaluation.reports.report import BenchmarkReport
from evaluation.reports.scalars import scalars


def score_table(report: BenchmarkReport) -> Table:
    """Official numbers of every task in percent, and what truncation did."""
    shown = Table(title=f"{report.name}: {report.model or 'model'}, all examples {report.mean:.1%}")
    for heading, side in (("task", "left"), ("examples", "right"), ("score", "left"), ("truncation", "left")):
        shown.add_column(heading, justify=side)  # type: ignore[arg-type]
    for task, cut in report.truncation().items():
        numbers = "  ".join(f"{column} {value:g}" for column, value in report.tables.get(task, {}).items())
        shown.add_row(task, str(cut.num_examples), numbers, str(cut))
    return shown


def label_of(scalar: str) -> str:
    """A scalar's name beside the columns of a report's tasks, which may have a "mean" of their own."""
    name = scalar.split("/", 2)[-1]
    return "all examples" if name == "mean" else name


def comparison(before: BenchmarkReport, after: BenchmarkReport, title: str = "") -> Table:
    """Every score before and after training, and the difference in points; the benchmark's name is the title."""
    shown = Table(title=f"{title or before.name}: step {before.step} and step {after.step}")
    for heading in ("task or length", "before", "after", "points"):
        shown.add_column(heading, justify="right")
    last = scalars(after)
    for name, score in scalars(before).items():
        if name in last:
            shown.add_row(label_of(name), f"{score:.1%}", f"{last[name]:.1%}", f"{100 * (last[name] - score):+z.1f}")
    return shown
