"""Publishes a report of `evaluate`: writes its files, prints its table, sends scores and pictures to loggers."""

import logging
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from rich.console import Console

from evaluation.processes import rank
from evaluation.reports.comparable import score_names
from evaluation.reports.logged import show, titled_scalars
from evaluation.reports.pages import Pages
from evaluation.reports.reading import load_report
from evaluation.reports.report import BenchmarkReport
from evaluation.reports.terminal import score_table
from lit_longpo.errors import InputError
from lit_longpo.files.strict_json import RecordError
from lit_longpo.loggers import pages_of

log = logging.getLogger(__name__)

_NUM_SAMPLES = 8  # answers of each task that loggers show
_PART = "part"  # label of a report on fewer answers than one that is there
_OFFICIAL = "score", "official"  # a table's column of official scores, and the label of a report of such


def publish(report: BenchmarkReport, output: Path, loggers: Sequence[Logger] = ()) -> BenchmarkReport:
    """Write and show a report; the first process does.

    Args:
        report: of at least one answer.
        output: folder of its three files.
        loggers: that show it; without any, TensorBoard in the folder.

    Raises:
        InputError: there is no answer.
    """
    if rank() > 0:
        return report
    if not report.predictions:
        raise InputError(f"expected at least one answer of {report.name}, got none; raise --max_minutes")
    pages = Pages(report)
    label = _label(pages, output)
    paths = pages.write(output, label)
    Console().print(score_table(report))
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


def _label(pages: Pages, output: Path) -> str:
    """What tells a report from those that it must not replace: by another score, or of more answers; said."""
    score = _other_score(pages.report, _before(pages.path(output)))
    path = pages.path(output, score)
    before = _before(path)
    known = {item.id for item in before.predictions} if before else set()
    label = "-".join(filter(None, (score, _PART)))
    if lost := known - {item.id for item in pages.report.predictions}:
        log.warning(
            "%s keeps its %d answers, %d of which are not in this report, written as %s",
            *(path, len(known), len(lost), pages.path(output, label).name),
        )
    return label if lost else score


def _before(path: Path) -> BenchmarkReport | None:
    """The report that lies there; one that cannot be read is put aside, as the answers make another."""
    try:
        return load_report(path) if path.is_file() else None
    except RecordError as error:
        aside = path.with_name(f"{path.name}.unreadable")
        path.replace(aside)
        log.warning("%s; kept as %s, a new one is written", str(error).rpartition("; ")[0] or error, aside.name)
        return None


def _other_score(report: BenchmarkReport, before: BenchmarkReport | None) -> str:
    """The name of the report's score where the one before has the same answers by another one; else empty."""
    if before is None or not {item.id for item in before.predictions} & {item.id for item in report.predictions}:
        return ""
    names, others = score_names(report, before)
    if not names or names & others:
        return ""
    [*rest, name] = sorted(names)
    return _OFFICIAL[1] if rest or name == _OFFICIAL[0] else name
