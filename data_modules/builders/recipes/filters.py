"""Filters of answers that no pair should be made of. Each names its reason, and reasons are counted."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from data_modules.builders.recipes.base import Workbench
from data_modules.qa_sets.matching import has_words, ngrams, normalise, words_of
from lit_longpo.ranges import MOST, check_numbers

# How language models say that they will not or cannot answer; compared with normalised text.
_REFUSALS = (
    "i am sorry but", "i m sorry but", "i apologize but", "i cannot answer", "i can t answer", "i am unable to",
    "i m unable to", "i cannot help", "i can t help", "i cannot assist", "i can t assist", "i cannot provide",
    "i can t provide", "i do not have access", "i don t have access", "i do not have enough information",
    "i don t have enough information", "as an ai", "as a language model", "no information is provided",
    "the context does not provide", "the context does not mention", "the text does not provide",
    "the text does not mention", "the passage does not mention", "is not mentioned in the text",
    "is not mentioned in the context", "cannot be determined from the", "please provide the",
)  # fmt: skip
_THOUGHTS_ALONE = "thoughts without an answer"


class AnswerFilter(ABC):
    """Decides whether an answer may enter a pair."""

    @abstractmethod
    def reason(self, answer: str, context: str) -> str | None:
        """Why the answer may not; `None` if it may.

        Args:
            answer: what was generated.
            context: what it was generated from.
        """


@dataclass
class Refusal(AnswerFilter):
    """Refuses answers that say there is no answer.

    Args:
        phrases: further ones, in any case and punctuation.
    """

    phrases: tuple[str, ...] = ()

    def reason(self, answer: str, context: str) -> str | None:
        """Looked for in the whole answer."""
        plain, phrases = normalise(answer), (*_REFUSALS, *map(normalise, self.phrases))
        return "refusal" if any(has_words(plain, phrase) for phrase in phrases) else None


@dataclass
class Repetition(AnswerFilter):
    """Refuses answers that repeat themselves.

    The share of repeated word n-grams counts; unlike that of repeated words it does not grow with length.

    Args:
        n: words of an n-gram.
        max_share: n-grams that occurred before, as a share of all.
    """

    n: int = 4
    max_share: float = 0.5

    def __post_init__(self) -> None:
        check_numbers(self, "filters.init_args.", n=(1, MOST), max_share=(0, 1))

    def reason(self, answer: str, context: str) -> str | None:
        """Looked for in words; where scripts join them (`words_of`), in characters."""
        grams = ngrams(words_of(normalise(answer)), self.n)
        return "repetition" if len(grams) > self.n and 1 - len(set(grams)) / len(grams) > self.max_share else None


@dataclass
class Copy(AnswerFilter):
    """Refuses long answers that are copied from the context.

    Args:
        n: words of an n-gram.
        min_words: shorter answers may be quotations.
        max_share: n-grams that occur in the context, as a share of all.
    """

    n: int = 8
    min_words: int = 40
    max_share: float = 0.9

    def __post_init__(self) -> None:
        check_numbers(self, "filters.init_args.", n=(1, MOST), min_words=(0, MOST), max_share=(0, 1))

    def reason(self, answer: str, context: str) -> str | None:
        """Looked for in words; where scripts join them (`words_of`), in characters."""
        words = words_of(normalise(answer))
        if len(words) < self.min_words:
            return None
        grams, of_context = ngrams(words, self.n), set(ngrams(words_of(normalise(context)), self.n))
        copies = sum(gram in of_context for gram in grams)
        return "copy of the context" if copies > self.max_share * len(grams) else None


@dataclass
class TooShort(AnswerFilter):
    """Refuses answers with too few words.

    Args:
        min_words: words of letters or digits at least.
    """

    min_words: int = 1

    def __post_init__(self) -> None:
        check_numbers(self, "filters.init_args.", min_words=(0, MOST))

    def reason(self, answer: str, context: str) -> str | None:
        """Counted after removing punctuation; where scripts join words (`words_of`), in characters."""
        return "too short" if len(words_of(normalise(answer))) < self.min_words else None


def default_filters() -> list[AnswerFilter]:
    """Refusals, repetitions, copies and answers without a word."""
    return [TooShort(), Refusal(), Repetition(), Copy()]


def first_reason(filters: Sequence[AnswerFilter], reply: str, context: str, bench: Workbench) -> str | None:
    """The first filter's reason against what a reply says behind its thoughts, counted; `None` if all let it pass."""
    answer = bench.said(reply)
    reasons = (each.reason(answer, context) for each in filters)
    reason = _THOUGHTS_ALONE if reply and not answer else next((reason for reason in reasons if reason), None)
    bench.counts.update([reason] if reason else [])
    return reason
