"""The questions at the top of RESULTS.md: sentences of summary.yaml, with figures from stored results."""

import json
import re
from pathlib import Path
from statistics import fmean

import yaml

from results import speed
from results.outcomes import STORED, load
from results.pages import line
from results.rows import Row, difference, rows_of
from results.suites import SUITES
from results.tables import points

NAME = "summary"
_TEXT = Path(__file__).with_name("summary.yaml")
_FIGURE = re.compile(r"\{(\w+) (.+?)\}")


def summary(stored: Path = STORED) -> str:
    """A line for each question."""
    lines = [line(["question", "answer", "section"]), line(["---"] * 3)]
    for entry in yaml.safe_load(_TEXT.read_text(encoding="utf-8")):
        answer = _FIGURE.sub(lambda found: _KINDS[found[1]](stored, *found[2].split()), entry["answer"])
        lines.append(line([entry["question"], answer, entry["section"]]))
    return "\n".join(lines)


def _gap(stored: Path, suite: str, row: str, other: str, lengths: str, score: str = "sub-EM") -> str:
    """A row minus another, with its interval."""
    rows, shared = rows_of(load(stored / suite)), SUITES[suite].questions_share_contexts
    each = Row.f1 if score == "F1" else Row.scores
    return points(difference(rows[row], rows[other], lengths.split(","), shared=shared, score=each))


def _mean(stored: Path, suite: str, row: str, lengths: str) -> str:
    """A row's percent."""
    return f"{rows_of(load(stored / suite))[row].mean(lengths.split(',')):.1f}"


def _seeds(stored: Path, suite: str, row: str) -> str:
    """How many there are of a row."""
    return str(len(rows_of(load(stored / suite))[row].outcomes))


def _perplexity(stored: Path, row: str, length: str) -> str:
    """The mean over a row's seeds."""
    files = [*stored.glob(f"smollm2-book/{row}.json"), *stored.glob(f"smollm2-book/{row}-seed*.json")]
    tables = [json.loads(path.read_text(encoding="utf-8"))["facts"]["tables"][0] for path in files]
    return f"{fmean(float(cells[-1]) for table in tables for cells in table['rows'] if cells[0] == length):.1f}"


def _speed(stored: Path, entry: str, of: str) -> str:
    """The range of an entry's ratios."""
    return speed.shown(entry, of)


_KINDS = {"gap": _gap, "mean": _mean, "seeds": _seeds, "perplexity": _perplexity, "speed": _speed}
