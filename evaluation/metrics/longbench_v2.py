"""LongBench v2 (Bai et al., arXiv 2412.15204): four choices, one letter. Read at THUDM/LongBench 2e00731."""

import re
from collections.abc import Sequence

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


def score(prediction: str, answers: Sequence[str]) -> float:
    """1.0 for the right letter, else 0.0.

    Raises:
        ValueError: `answers` is not one letter A to D.
    """
    if len(answers) != 1 or answers[0] not in LETTERS:
        raise ValueError(f"expected one letter A to D as answers, got {answers!r}; pass [record['answer']]")
    return float(extract_letter(prediction) == answers[0])


def table(
    predictions: Sequence[str],
    answers: Sequence[Sequence[str]],
    lengths: Sequence[str] | None,
    difficulties: Sequence[str] | None,
    *,
    compensated: bool = False,
) -> dict[str, float]:
    """Overall accuracy and that of the groups: percent, one decimal.

    An empty response is left out of every count, as in the official predictions' file. A group
    without a response, for which the official script divides by zero, is NaN.

    Args:
        predictions: responses.
        answers: the right letter of each, in a list.
        lengths: "short", "medium" or "long" of each; `None` leaves these groups out.
        difficulties: "easy" or "hard" of each, likewise.
        compensated: credit a response without an answer with 0.25 (off in the official script).
    """
    rows: dict[str, list[float]] = {"Overall": []}
    rows |= {name: [] for name in GROUPS[1:3] if difficulties is not None}
    rows |= {name: [] for name in GROUPS[3:] if lengths is not None}
    labels = [[heading(group) for group in column] for column in (difficulties, lengths) if column is not None]
    for prediction, answer, *groups in zip(predictions, answers, *labels, strict=True):
        value = score(prediction, answer)
        if compensated and extract_letter(prediction) is None:
            value = _GUESS
        if prediction:
            for group in ("Overall", *groups):
                rows[group].append(value)
    return {name: round(100 * sum(row) / len(row), 1) if row else float("nan") for name, row in rows.items()}


def heading(group: str) -> str:
    """Column of the official table for a record's `difficulty` or `length`.

    Raises:
        ValueError: there is no such column.
    """
    if not isinstance(group, str) or group.capitalize() not in GROUPS[1:]:
        known = ", ".join(name.lower() for name in GROUPS[1:])
        raise ValueError(f"expected one of {known}, got {group!r}; pass record['length'] and record['difficulty']")
    return group.capitalize()
