"""Judges: scores between 0 and 1 of an answer against the gold ones."""

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from data_modules.qa_sets.matching import holds, normalise, words_of
from lit_longpo.policy.prompts.thoughts import without_thoughts

# A choice as it is named: a capital, or in front of a mark; "A car", "I think" and "I'm" are none.
_END = r"(?![\w'\u2019])"
_NO_NOUN = r"(?:is|because|since|as|for|and|or|not|but)\b"
_ALONE = rf"(?:[B-HJ-Z]|A(?!\s+(?!{_NO_NOUN})[a-z])|I(?!\s+(?!is\b|because\b)[a-z])){_END}"
_CHOICE = rf"{_ALONE}|[a-z](?=[).:\]]|\s*$)"
_CHOSEN = re.compile(
    rf"(?:\b(?i:answer|choice|option)\b\W{{0,3}}(?:[:=\uff1a]|\b(?i:is)\b)\W{{0,6}}|boxed\{{)({_CHOICE}|[b-hj-z]{_END})"
)
_NAMED = re.compile(rf"(?<![\w'\u2019])({_CHOICE})")


class Judge(ABC):
    """Scores an answer against the accepted ones."""

    @abstractmethod
    def score(self, prediction: str, answers: Sequence[str]) -> float:
        """Score in [0, 1]; the best of the accepted answers counts."""


@dataclass
class ContainsGold(Judge):
    """1 if the answer contains a gold answer as whole words, else 0.

    SoLoPO's judge; the paper calls it substring exact match. Whole words, because "no" is not in "north"; where
    scripts join words (Chinese, Japanese, Korean, Thai), characters. A gold answer of one letter is a choice: the one
    that is said to be the answer, or else any that is named.

    Args:
        after: judge only what follows the last occurrence of this text, for answers that think aloud first
            and would otherwise be right by listing candidates; `None` judges everything behind `</think>`.
    """

    after: str | None = None

    def score(self, prediction: str, answers: Sequence[str]) -> float:
        """1.0 or 0.0."""
        said = conclusion(prediction, self.after)
        text, choices = normalise(said), _choices(said)
        return float(any(_is_given(answer, text, choices) for answer in answers))


@dataclass
class TokenF1(Judge):
    """Harmonic mean of word precision and recall (SQuAD's F1 without its article rule).

    Where scripts join words (Chinese, Japanese, Korean, Thai), of characters.

    Args:
        after: see `ContainsGold`.
    """

    after: str | None = None

    def score(self, prediction: str, answers: Sequence[str]) -> float:
        """Between 0 and 1."""
        words = Counter(words_of(normalise(conclusion(prediction, self.after))))
        return max((_f1(words, Counter(words_of(normalise(answer)))) for answer in answers), default=0.0)


def _choices(said: str) -> set[str]:
    """Letters that an answer gives: the one behind "answer is", or all that it names."""
    chosen = set(map(str.upper, _CHOSEN.findall(said)))
    return chosen if len(chosen) == 1 else set(map(str.upper, _NAMED.findall(said)))


def _is_given(answer: str, text: str, choices: set[str]) -> bool:
    """Whether a gold answer is in a normalised text, or among the choices if it is one letter."""
    plain = normalise(answer)
    is_choice = len(plain) == 1 and "a" <= plain <= "z"
    return plain.upper() in choices if is_choice else holds(text, plain)


def conclusion(prediction: str, after: str | None) -> str:
    """What follows the last `after`, or everything if it does not occur; thoughts (`<think>`) are no part of it."""
    prediction = without_thoughts(prediction)
    return prediction.rpartition(after)[2] if after and after in prediction else prediction


def _f1(prediction: Counter[str], answer: Counter[str]) -> float:
    shared = sum((prediction & answer).values())
    return 2 * shared / (prediction.total() + answer.total()) if shared else 0.0
