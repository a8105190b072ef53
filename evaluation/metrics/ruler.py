"""RULER's two scores (Hsieh et al., arXiv 2404.06654). Read at NVIDIA/RULER c3f5e3b."""

import re
from collections.abc import Mapping, Sequence

from lit_longpo.errors import InputError

NIAH = (
    *("niah_single_1", "niah_single_2", "niah_single_3"),
    *("niah_multikey_1", "niah_multikey_2", "niah_multikey_3", "niah_multivalue", "niah_multiquery"),
)
CATEGORIES: Mapping[str, tuple[str, ...]] = {"NIAH": NIAH, "VT": ("vt",), "AGG": ("cwe", "fwe"), "QA": ("qa_1", "qa_2")}
TASKS = tuple(task for tasks in CATEGORIES.values() for task in tasks)
_CONTROL = re.compile(r"[\x00-\x1f]")


def share_found(prediction: str, expected: Sequence[str]) -> float:
    """Share of the expected strings that the prediction contains, whatever the case.

    As in RULER nothing is normalised but control characters, which count as line breaks, and wrong
    strings beside the right ones cost nothing.

    Raises:
        InputError: nothing is expected.
    """
    if not expected:
        raise InputError("expected at least one string to look for, got none; pass the example's answers")
    text = _CONTROL.sub("\n", prediction).lower()
    return sum(answer.lower() in text for answer in expected) / len(expected)


def all_found(prediction: str, expected: Sequence[str]) -> float:
    """1.0 if the prediction contains every expected string, else 0.0; stricter than RULER."""
    return float(share_found(prediction, expected) == 1.0)


def any_found(prediction: str, expected: Sequence[str]) -> float:
    """1.0 if the prediction contains any of the expected strings, else 0.0; RULER's score of questions.

    Raises:
        InputError: nothing is expected.
    """
    return float(share_found(prediction, expected) > 0)


def score(dataset: str, prediction: str, answers: Sequence[str]) -> float:
    """The share of the expected strings that was found; of questions (qa_1, qa_2) whether any was.

    Raises:
        InputError: no task of RULER, or no answers.
    """
    if dataset not in TASKS:
        raise InputError(f"expected a task of {', '.join(TASKS)}, got {dataset!r}")
    metric = any_found if dataset in CATEGORIES["QA"] else share_found
    return metric(prediction, answers)
