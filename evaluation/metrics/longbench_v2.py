"""LongBench v2 (Bai et al., arXiv 2412.15204): four choices, one letter. Read at THUDM/LongBench 2e00731."""

import re
from collections.abc import Sequence

from lit_longpo.errors import InputError

LETTERS = ("A", "B", "C", "D")
GROUPS = ("Overall", "Easy", "Hard", "Short", "Medium", "Long")
_IN_BRACKETS = re.compile(r"The correct answer is \(([A-D])\)")
_BARE = re.compile(r"The correct answer is ([A-D])")
_GUESS = 0.25


def extract_letter(response: str) -> str | None:
    """The letter a response commits to, by the official patterns; `None` if there is none.

    Asterisks are deleted first. The form with brackets is looked for in the whole response before the
    bare one is, and the bare one reads "is An apple" as A. A colon, two spaces or a newline after "is",
    or lower case, is no answer.
    """
    plain = response.replace("*", "")
    match = _IN_BRACKETS.search(plain) or _BARE.search(plain)
    return match[1] if match else None


def score(
    dataset: str,
    prediction: str,
    answers: Sequence[str],
) -> float:
    """1.0 for the right letter, else 0.0.

    Raises:
        InputError: `answers` is not one letter A to D.
    """
    if len(answers) != 1 or answers[0] not in LETTERS:
        raise InputError(f"expected one letter A to D as answers, got {answers!r}; pass [record['answer']]")
    return float(extract_letter(prediction) == answers[0])


def table(
    scores: Sequence[float], lengths: Sequence[str] | None = None, difficulties: Sequence[str] | None = None
) -> dict[str, float]:
    """Overall accuracy and that of the groups: percent, one decimal.

    A group without a response, for which the official script divides by zero, is NaN.

    Args:
        scores: of responses that are not empty, as the official predictions' file has no others.
        lengths: "short", "medium" or "long" of each; `None` leaves these groups out.
        difficulties: "easy" or "hard" of each, likewise.
    """
    rows: dict[str, list[float]] = {"Overall": []}
    rows |= {name: [] for name in GROUPS[1:3] if difficulties is not None}
    rows |= {name: [] for name in GROUPS[3:] if lengths is not None}
    labels = [[heading(group) for group in column] for column in (difficulties, lengths) if column is not None]
    for value, *groups in zip(scores, *labels, strict=True):
        for group in ("Overall", *groups):
            rows[group].append(value)
    return {name: round(100 * sum(row) / len(row), 1) if row else float("nan") for name, row in rows.items()}


def aggregate(
    scores: Sequence[float],
    predictions: Sequence[str],
    lengths: Sequence[str] | None = None,
    difficulties: Sequence[str] | None = None,
    compensated: bool = False,
) -> float | dict[str, float]:
    """Overall accuracy of a file, or with `lengths` or `difficulties` the whole table.

    An empty response is left out of every count, as in the official predictions' file.

    Args:
        scores: of each prediction.
        predictions: responses.
        lengths: see `table`.
        difficulties: see `table`.
        compensated: credit a response without an answer with 0.25 (off in the official script).
    """
    kept = [number for number, text in enumerate(predictions) if text]
    credited = [
        _GUESS if compensated and extract_letter(predictions[number]) is None else scores[number] for number in kept
    ]
    columns = [None if column is None else [column[number] for number in kept] for column in (lengths, difficulties)]
    rows = table(credited, *columns)
    return rows["Overall"] if lengths is None and difficulties is None else rows


def heading(group: str) -> str:
    """Column of the official table for a record's `difficulty` or `length`.

    Raises:
        InputError: there is no such column.
    """
    if not isinstance(group, str) or group.capitalize() not in GROUPS[1:]:
        known = ", ".join(name.lower() for name in GROUPS[1:])
        raise InputError(f"expected one of {known}, got {group!r}; pass record['length'] and record['difficulty']")
    return group.capitalize()
