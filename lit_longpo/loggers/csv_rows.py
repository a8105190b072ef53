"""Keeps the rows of earlier starts in a `CSVLogger`'s named folder, whose file Lightning deletes at every start."""

import csv
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger

log = logging.getLogger(__name__)

_ASIDE = "metrics.csv.before"
_RATE = "lr-"  # how a LearningRateMonitor's names begin
_DELETES = "Experiment logs directory"  # how Lightning's warning begins; nothing is left to delete


class EarlierRows:
    """The rows that `metrics.csv` files hold already.

    A start that goes on writes behind them, as TensorBoard does; so do `validate` and `test`. A training that begins
    anew leaves them in a file of their own.

    Args:
        loggers: the trainer's, before they make their files.
    """

    def __init__(self, loggers: Sequence[Logger]) -> None:
        named = (logger for logger in loggers if isinstance(logger, CSVLogger) and logger._version is not None)
        self._loggers = [logger for logger in named if logger._experiment is None]

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Out of Lightning's way inside; where `put_back` is not reached, they are as they were."""
        for logger in self._loggers:
            path = _file(logger)
            if path.is_file():
                os.replace(path, path.with_name(_ASIDE))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", _DELETES)
            try:
                yield
            finally:
                for _, path, aside in self._set_aside():
                    os.replace(aside, path)

    def put_back(self, *, anew: bool, steps: int | None) -> None:
        """Once it is known where the start begins; before anything is written.

        Args:
            anew: a training that goes on from nothing.
            steps: those that are done; rows of later ones will come again. `None` keeps all.
        """
        for logger, path, aside in self._set_aside():
            if anew:
                _leave(aside, path)
            else:
                _continue(logger, aside, path, steps)

    def _set_aside(self) -> Iterator[tuple[CSVLogger, Path, Path]]:
        """Each logger whose file of rows was put aside, the place where the file belongs, and the one where it is."""
        for logger in self._loggers:
            path = _file(logger)
            aside = path.with_name(_ASIDE)
            if aside.is_file() and not path.exists():
                yield logger, path, aside


def _file(logger: CSVLogger) -> Path:
    return Path(logger.log_dir) / "metrics.csv"


def _leave(aside: Path, path: Path) -> None:
    number = next(n for n in range(1, 1_000_000) if not path.with_name(f"metrics-{n}.csv").exists())
    os.replace(aside, path.with_name(f"metrics-{number}.csv"))
    log.warning("%s: an earlier training's rows are in metrics-%d.csv", path, number)


def _continue(logger: CSVLogger, aside: Path, path: Path, steps: int | None) -> None:
    reader = csv.DictReader(_whole_lines(aside))
    rows = [row for row in reader if steps is None or _is_done(row, steps)]
    names = list(reader.fieldnames or ())
    draft = path.with_name(f"{path.name}.partial")
    with draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    os.replace(draft, path)
    logger.experiment.metrics_keys = names
    aside.unlink()


def _whole_lines(path: Path) -> list[str]:
    """Without a last line that was cut off, when the process was killed or the disk was full."""
    with path.open(newline="", encoding="utf-8") as file:
        return [line for line in file if line.endswith("\n")]


def _is_done(row: dict[str, str], steps: int) -> bool:
    """Whether a row is of the steps that are done: Lightning counts them from 0, benchmarks name how many there were.

    Args:
        row: with text in every cell; rows of benchmarks have no epoch, nor have those of a `LearningRateMonitor`, which
            writes the rate of a step before it is taken.
        steps: that are done.
    """
    step = int(row["step"])
    is_ahead = bool(row.get("epoch")) or any(value and name.startswith(_RATE) for name, value in row.items())
    return step < steps or (step == steps and not is_ahead)
