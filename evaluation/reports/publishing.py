"""A report of `evaluate`: files in its output, its table in the terminal, scores and pictures in loggers."""

import logging
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from rich.console import Console

from evaluation.reports.comparison import load_report
from evaluation.reports.logged import show, titled_scalars
from evaluation.reports.pages import Pages
from evaluation.reports.report import BenchmarkReport
from evaluation.reports.terminal import table
from evaluation.running.processes import rank
from lit_longpo.errors import InputError
from lit_longpo.loggers import pages_of

log = logging.getLogger(__name__)

_NUM_SAMPLES = 8  # answers of each task that loggers show
_PART = "part"  # label of a report on fewer answers than one that is there


def publish(report: BenchmarkReport, output: Path, loggers: Sequence[Logger] = ()) -> BenchmarkReport:
    """Write and show a report; the first process does.

    Args:
        report: of at least one answer.
        output: folder of its three files.
        loggers: that show it; without any, TensorBoard in the folder.

    Raises:
        ValueError: there is no answer.
    """
    if rank() > 0:
        return report
    if not report.predictions:
        raise InputError(f"expected at least one answer of {report.name}, got none; raise --max_minutes")
    pages = Pages(report)
    label = _PART if _is_part(pages, output) else ""
    paths = pages.write(output, label)
    Console().print(table(report))
    own = [] if loggers else [TensorBoardLogger(output, name="", version="tensorboard")]
    _show([*loggers, *own], pages, label, output)
    for logger in own:
        logger.finalize("success")
    log.info("written: %s", ", ".join(str(path) for path in paths))
    return report


def _show(loggers: Sequence[Logger], pages: Pages, label: str, output: Path) -> None:
    """Scores, pictures and sample answers, as callbacks show them."""
    title = "-".join(filter(None, (pages.report.name, label)))
    for logger in loggers:
        logger.log_metrics(titled_scalars(pages, title), step=pages.report.step)
        logger.save()
    for shown in pages_of(loggers, output):
        show(shown, pages, title, _NUM_SAMPLES)


def _is_part(pages: Pages, output: Path) -> bool:
    """Whether a report with more answers lies in the output already, which is then kept; said."""
    path = pages.path(output)
    known = {item.id for item in load_report(path).predictions} if path.is_file() else set()
    if lost := known - {item.id for item in pages.report.predictions}:
        log.warning(
            "%s keeps its %d answers, %d of which are not in this report, written as %s",
            *(path, len(known), len(lost), pages.path(output, _PART).name),
        )
    return bool(lost)
