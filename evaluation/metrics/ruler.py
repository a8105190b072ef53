"""RULER's score of lists (Hsieh et al., arXiv 2404.06654). Read at NVIDIA/RULER c3f5e3b."""

import re
from collections.abc import Sequence

from lit_longpo.errors import InputError

_CONTROL = re.compile(r"[\x00-\x1f]")


def share_found(prediction: str, expected: Sequence[str]) -> float:
    """Share of the expected strings that the prediction contains, whatever the case.

    As in RULER nothing is normalised but control characters, which count as line breaks, and wrong
    strings beside the right ones cost nothing.

    Args:
        prediction: generated text.
        expected: strings, every one of which should be there.

    Raises:
        ValueError: nothing is expected.
    """
    if not expected:
        raise InputError("expected at least one string to look for, got none; pass the example's answers")
    text = _CONTROL.sub("\n", prediction).lower()
    return sum(answer.lower() in text for answer in expected) / len(expected)


def all_found(prediction: str, expected: Sequence[str]) -> float:
    """1.0 if the prediction contains every expected string, else 0.0; stricter than RULER."""
    return float(share_found(prediction, expected) == 1.0)
