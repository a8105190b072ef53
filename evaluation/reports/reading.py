"""Reads a saved report back; a file that is no report, or damaged, is refused by the name of the field."""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from evaluation.reports.report import BenchmarkReport, with_nan
from lit_longpo.errors import InputError
from lit_longpo.files.stored import read_stored, stored_object
from lit_longpo.files.strict_json import RecordError, instead

_ADVICE = "name a <benchmark>-step<n>.json as `evaluate` and callbacks write them; `evaluate --rescore` writes one anew"
_ROUNDING = 1e-9
_FINGERPRINT = re.compile(r" \((\w{8})\)$")  # at the end of a model's name


@dataclass(frozen=True)
class _Scores:
    """What the file says for readers; only the mean is compared with the predictions."""

    mean: float | None = None
    by_length: Mapping[str, float] = field(default_factory=dict)
    cells: tuple[Mapping[str, object], ...] = ()


@dataclass(frozen=True)
class _Stored(BenchmarkReport):
    """A report as its file has it: a mean of nothing is null, and what readers look at stands beside."""

    tables: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)  # type: ignore[assignment]
    scores: _Scores = _Scores()
    sections: tuple[Mapping[str, object], ...] = ()


def load_report(path: Path) -> BenchmarkReport:
    """A report as `BenchmarkReport.save` wrote it.

    Raises:
        MissingFileError: there is no such file.
        RecordError: it is something else, or damaged; the message names the field.
    """
    return read_report(path)[0]


def load_checked_report(path: Path) -> BenchmarkReport:
    """A report as it was saved, if its predictions have the mean that the file states.

    Raises:
        MissingFileError: there is no such file.
        InputError: the file is no report, or the means differ, because the class that knows which predictions count
            is not imported.
    """
    report, stated = read_report(Path(path))
    if stated is not None and not math.isclose(stated, report.mean, abs_tol=_ROUNDING):
        raise InputError(
            f"expected the mean {stated} that {path} states, got {report.mean} from its predictions; the class of "
            f"{report.name!r} says which of them count: import it and call evaluation.reports.comparison.compare_files"
        )
    return report


def refuse_other_report(path: Path, model: str, settings: Mapping[str, object]) -> None:
    """Refuse a place where the report of another model, or of other settings, lies, which would be replaced.

    Args:
        path: of the report to come.
        model: of the report to come, by its name; a folder has as many as there are ways to type it, and where names
            end with fingerprints these alone count.
        settings: that its numbers depend on, as it will store them.

    Raises:
        InputError: such a report lies there.
        RecordError: what lies there is no report.
    """
    if not path.is_file():
        return
    stored = stored_object(path, "move it")
    before, was = str(stored.get("model", model)), dict(stored.get("settings", {}))
    wanted = json.loads(json.dumps(dict(settings)))
    other = [name for name, value in wanted.items() if was.get(name, value) != value]
    got = f"one of other {', '.join(other)}" if other else ""
    if not _is_same_model(before, model):
        got = f"that of {before}"
    if got:
        raise InputError(
            f"expected no report or the one of {model} and these settings at {path}, got {got}, which would be lost; "
            "type --output FOLDER"
        )


def _is_same_model(one: str, other: str) -> bool:
    if one == other:
        return True
    prints = [found[1] for name in (one, other) if (found := _FINGERPRINT.search(name))]
    if len(prints) == 2:
        return prints[0] == prints[1]
    first, second = (Path(path).expanduser() for path in (one, other))
    return first.is_dir() and second.is_dir() and first.samefile(second)


def read_report(path: Path) -> tuple[BenchmarkReport, float | None]:
    """A report and the mean that its file states, `None` for none.

    Raises:
        MissingFileError: there is no such file.
        RecordError: it is something else, or damaged.
    """
    stored = read_stored(path, _Stored, _ADVICE)
    with instead(_ADVICE):
        _check_predictions(stored, str(path))
    shared = {item.name: getattr(stored, item.name) for item in fields(BenchmarkReport)}
    return BenchmarkReport(**{**shared, "tables": with_nan(stored.tables)}), stored.scores.mean


def _check_predictions(stored: _Stored, where: str) -> None:
    """Scores and depths are shares, and an id is one prediction's."""
    for number, item in enumerate(stored.predictions):
        for name, value in (("score", item.score), ("depth", item.depth or 0.0)):
            if not -_ROUNDING <= value <= 1 + _ROUNDING:
                raise RecordError.at(where, f"field 'predictions[{number}].{name}'", "a number from 0 to 1", value)
    twice = [name for name, count in Counter(item.id for item in stored.predictions).items() if count > 1]
    if twice:
        raise RecordError.at(where, "field 'predictions'", "each id once", twice[0])
