"""Summarises what tokenising a run's splits has found, in `data_report.json`."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from data_modules.rows.split_report import SplitReport
from lit_longpo.files.stored import write_json

log = logging.getLogger(__name__)

Splits = Mapping[str, SplitReport]


def topics(splits: Splits) -> dict[str, Any]:
    """What is reported of every split, by topic."""
    return {
        "positions": {name: report.positions for name, report in splits.items()},
        "truncation": {name: asdict(report.lengths) for name, report in splits.items()},
        "tokens": {name: asdict(report.tokens) for name, report in splits.items()},
        "tokenised_jointly": {name: asdict(report.seams) for name, report in splits.items()},
        "weighted": {name: report.weighted for name, report in splits.items()},
        "ignored_columns": {name: list(report.selection.unread) for name, report in splits.items()},
        "suspect_texts": {name: asdict(report.suspect) for name, report in splits.items()},
    }


def warn_of_lengths(splits: Splits) -> None:
    """Log what the length policy cut or skipped of each split, and where it left nothing."""
    for name, report in splits.items():
        if report.lengths.cut or report.lengths.skipped:
            log.warning("%s: what the length policy did: %s; see data_report.json", name, report.lengths)
        if 0 < report.lengths.examples == report.lengths.skipped:
            log.warning(
                "%s: all examples are longer than `data.init_args.max_length`, and none is left; raise it, or type "
                "--data.init_args.on_overlength truncate",
                name,
            )


def write(reports: Callable[[], dict[str, Any]], trainer: Trainer | None) -> None:
    """Write `data_report.json` into the run's folder, if a logger makes one.

    Args:
        reports: gives what it says; called on the rank that writes.
        trainer: of the run; `None` without one.
    """
    if trainer is None or not trainer.loggers or getattr(trainer, "fast_dev_run", False):
        return
    folder = trainer.log_dir  # asked on every rank: it broadcasts
    if folder is not None and trainer.is_global_zero:
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_json(Path(folder) / "data_report.json", reports(), indent=2)
