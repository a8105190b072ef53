"""Normalisation and token overlap, in English and in Chinese."""

import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence

from evaluation.metrics.extras import chinese_words

_ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)
# Code points of the Chinese marks that LongBench and LV-Eval drop, first and last of each run. The
# gaps are theirs: opening book marks, the middle dot and the full-width full stop stay.
_CHINESE_RUNS = (
    *((0x2013, 0x2014), (0x2018, 0x2019), (0x201B, 0x201F), (0x2026, 0x2027), (0x3001, 0x3003)),
    *((0x300B, 0x3011), (0x3014, 0x301F), (0x3030, 0x3030), (0x303E, 0x303F), (0xFE4F, 0xFE4F)),
    *((0xFF01, 0xFF0D), (0xFF0F, 0xFF0F), (0xFF1A, 0xFF20), (0xFF3B, 0xFF40), (0xFF5B, 0xFF64)),
)
_CHINESE_PUNCTUATION = PUNCTUATION | {code: None for first, last in _CHINESE_RUNS for code in range(first, last + 1)}


def normalize_answer(text: str) -> str:
    """SQuAD's normalisation: lower case, no ASCII punctuation, no articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def normalize_chinese(text: str) -> str:
    """Lower case, no ASCII punctuation, none of the benchmarks' Chinese marks, no white space."""
    return "".join(text.lower().translate(_CHINESE_PUNCTUATION).split())


def english_tokens(text: str) -> list[str]:
    """Words of the normalised text."""
    return normalize_answer(text).split()


def chinese_tokens(text: str) -> list[str]:
    """Words, segmented first and normalised afterwards, empty ones dropped.

    Raises:
        MissingPackageError: jieba is missing; the message names the command that installs it.
    """
    return [word for word in map(normalize_chinese, chinese_words(text)) if word]


def token_f1(prediction: Sequence[str], answer: Sequence[str]) -> float:
    """Harmonic mean of precision and recall over tokens, each counted as often as it occurs.

    Two empty sides score 0: there is no special case, not for yes and no either.
    """
    shared = (Counter(prediction) & Counter(answer)).total()
    if not shared:
        return 0.0
    precision, recall = shared / len(prediction), shared / len(answer)
    return 2 * precision * recall / (precision + recall)


def set_f1(prediction: Iterable[str], answer: Iterable[str]) -> float:
    """Harmonic mean of precision and recall over different items; an empty one is an item, two empty sides score 0."""
    found, wanted = set(prediction), set(answer)
    shared = len(found & wanted)
    return 2 * shared / (len(found) + len(wanted)) if shared else 0.0


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
    text = normalize_answer(prediction)
    return float(any(normalize_answer(answer) in text for answer in answers))
