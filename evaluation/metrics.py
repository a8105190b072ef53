"""Pure scoring functions."""

import re
import string
from collections.abc import Iterable

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """SQuAD's normalisation: lower case, no ASCII punctuation, no articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def sub_em(prediction: str, answers: Iterable[str]) -> float:
    """Substring exact match: 1 if a normalised answer is part of the normalised prediction.

    Character level, as in its public implementations: "no" matches "north", and an answer that
    normalises to nothing matches everything.

    Args:
        prediction: generated text.
        answers: accepted answers; the best one counts.

    Returns:
        0.0 or 1.0; 0.0 if there is no answer.
    """
    found = normalize_answer(prediction)
    return float(any(normalize_answer(answer) in found for answer in answers))
