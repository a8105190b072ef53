"""Judges: scores between 0 and 1 of an answer against the gold ones."""

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from data_modules.qa_sets.matching import holds, normalise, words_of
from lit_longpo.choices import as_choice, gives
from lit_longpo.policy.prompts.thoughts import without_thoughts


class Judge(ABC):
    """Scores an answer against the accepted ones.

    Attributes:
        after: behind which text of an answer it reads; `None` if it reads all.
    """

    after: str | None = None

    @abstractmethod
    def score(self, prediction: str, answers: Sequence[str]) -> float:
        """Score in [0, 1]; the best of the accepted answers counts."""


@dataclass
class ContainsGold(Judge):
    """1 if the answer contains a gold answer as whole words, else 0.

    SoLoPO's judge; the paper calls it substring exact match. Whole words, because "no" is not in "north"; where
    scripts join words (Chinese, Japanese, Korean, Thai), characters. A gold answer of one letter is a choice: the one
    that is said to be the answer, or else any that is named and not denied. Of words, a denial is not read: "not Paris"
    contains Paris.

    Args:
        after: judge only what follows the last occurrence of this text, for answers that think aloud first
            and would otherwise be right by listing candidates; `None` judges everything behind `</think>`.
    """

    after: str | None = None

    def score(self, prediction: str, answers: Sequence[str]) -> float:
        """1.0 or 0.0."""
        said = conclusion(prediction, self.after)
        text = normalise(said)
        return float(any(_is_given(answer, said, text) for answer in answers))


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


def _is_given(answer: str, said: str, text: str) -> bool:
    """Whether a gold answer is in a normalised text, or a choice that is given if it is one letter."""
    letter = as_choice(answer)
    return gives(said, letter) if letter else holds(text, normalise(answer))


def conclusion(prediction: str, after: str | None) -> str:
    """What follows the last `after`, or everything if it does not occur; thoughts (`<think>`) are no part of it."""
    prediction = without_thoughts(prediction)
    # Whatever its case and emphasis: "**Answer**: Oslo" is "Answer: Oslo".
    pattern = r"[*_`\s]*".join(map(re.escape, "".join(after.split()))) if after else ""
    ends = [found.end() for found in re.finditer(pattern, prediction, re.IGNORECASE)] if pattern else []
    return prediction[ends[-1] :] if ends else prediction


def _f1(prediction: Counter[str], answer: Counter[str]) -> float:
    shared = sum((prediction & answer).values())
    return 2 * shared / (prediction.total() + answer.total()) if shared else 0.0
