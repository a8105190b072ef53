"""Filters of answers that no pair should be made of. Each names its reason, and reasons are counted."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from data_modules.builders.recipes.base import Workbench
from data_modules.qa_sets.matching import has_words, ngrams, normalise, words_of
from lit_longpo.policy.prompts.thoughts import unknown_marks
from lit_longpo.ranges import MOST, check_numbers

# How language models say that they will not or cannot answer, in normalised text: anywhere in it, or all of it.
_NOT = r"(?:cannot|can not|can t|could not|couldn t|won t|will not)"
_ABLE = r"(?:unable|not (?:able|designed|equipped|programmed|trained))"
_TEXT = r"(?:text|context|passage|document|article|excerpt|story|paragraph|information|material)s?"
_TOLD = r"(?:mentioned|provided|given|specified|stated|included|discussed|available|described)"
_HOW = r"(?:\w+ly |(?:seem|appear)s? to )?"  # explicitly, directly
_FACTS = r"(?:\w+ )?(?:information|context|details?|data)"
_REFUSALS = (
    rf"(?:sorry|apologi[sz]e) (?:but|(?:i|we) {_NOT})",
    rf"(?:i|we) (?:am |m |are |re )?{_ABLE} to",
    rf"(?:i|we) (?:{_NOT}|(?:must )?(?:decline|refuse) to) {_HOW}"
    r"(?:answer|help|assist|provide|determine|comply|fulfill?|find (?:it|that|this|any|(?:an|the) answer))",
    rf"(?:i|we) (?:do not|don t) have (?:access|{_FACTS})",
    r"as an? (?:ai(?! \w+(?:er|ist|or)\b)|(?:large )?language model)",
    rf"{_TEXT} (?:(?:provided|given|above) )?(?:does not|doesn t|do not|don t|did not|didn t) "
    rf"{_HOW}(?:provide|mention|contain|specify|state|say|include|indicate|describe|discuss)",
    rf"{_TEXT} (?:(?:provided|given|above) )?(?:provides?|contains?|gives?|includes?|has|have) no "
    r"(?:\w+ )?(?:information|mention|answers?|details?)",
    rf"(?:(?:is|are|was|were) not|(?:isn|aren|wasn|weren) t) {_HOW}{_TOLD} in (?:the|this) (?:\w+ )?{_TEXT}",
    rf"no (?:specific )?information (?:(?:about|on) (?:\w+ ){{1,4}})?is {_TOLD}",
    r"there is no (?:specific )?(?:information|mention|answer)",
    rf"{_NOT} be {_HOW}(?:(?:determined|answered) (?:from|based on|with|by|in)|found in) (?:the|this) (?:\w+ )?{_TEXT}",
    rf"(?:this|the|your) (?:question|request) {_NOT} be (?:answered|fulfilled|completed|processed)",
    r"(?:not possible|impossible) to (?:determine|answer)",
    rf"(?:based on|from|according to) (?:the|this) (?:\w+ )?{_TEXT} it is (?:not possible|impossible) to",
    rf"please provide (?:me )?(?:with )?(?:the|more|a) (?:\w+ )?{_TEXT}",
)
_WHOLE_REFUSALS = (
    r"(?:sorry )?i (?:do not|don t) know",
    r"i (?:am|m) not (?:sure|certain)",
    rf"(?:it is |it s |that is |this is )?not {_TOLD}",
    rf"(?:there is )?(?:not enough|insufficient) {_FACTS}(?: to .*)?",
    r"(?:unable to|cannot|can not|can t) (?:answer|determine)(?: .*)?",
    r"no answer|unanswerable|n a",
    r"\u6211?(?:\u4e0d\u77e5\u9053|\u65e0\u6cd5(?:\u56de\u7b54|\u786e\u5b9a))",
)
_CHINESE_REFUSALS = (
    r"\u6211(?:\u65e0\u6cd5|\u4e0d\u80fd)(?:\u56de\u7b54|\u786e\u5b9a|\u63d0\u4f9b|\u5e2e\u52a9)",
    r"(?:\u6587|\u6587\u7ae0|\u6587\u672c|\u6587\u6863|\u539f\u6587|\u4e0a\u4e0b\u6587|\u6750\u6599)\u4e2d?(?:\u5e76?\u6ca1\u6709|\u5e76?\u672a)"
    r"(?:\u660e\u786e)?(?:\u63d0\u5230|\u63d0\u53ca|\u63d0\u4f9b|\u8bf4\u660e|\u7ed9\u51fa|\u5305\u542b)",
)
_IS_REFUSED = re.compile(
    rf"(?<!\w)(?:{'|'.join(_REFUSALS)})(?!\w)|{'|'.join(_CHINESE_REFUSALS)}"
    rf"|^(?:{'|'.join(_WHOLE_REFUSALS)})$"
)
_NOT_AVAILABLE = re.compile(r"\W*[Nn]\.\s?[Aa]\b\W*")  # in normalised text it is Na, sodium
_LONGEST_WORD = 40
_THOUGHTS_ALONE = "thoughts without an answer"
_UNKNOWN_MARKS = "answers that begin with text in marks that are not known, such as <answer> (kept whole)"


class AnswerFilter(ABC):
    """Decides whether an answer may enter a pair."""

    @abstractmethod
    def reason(self, answer: str, context: str) -> str | None:
        """Why the answer may not; `None` if it may."""


@dataclass
class Refusal(AnswerFilter):
    """Refuses answers that say there is no answer.

    Args:
        phrases: further ones, in any case and punctuation.
    """

    phrases: tuple[str, ...] = ()

    def reason(self, answer: str, context: str) -> str | None:
        """Looked for in the whole answer; in English and Chinese."""
        plain = normalise(answer)
        said = _IS_REFUSED.search(plain) or _NOT_AVAILABLE.fullmatch(answer)
        is_refused = said or any(has_words(plain, normalise(phrase)) for phrase in self.phrases)
        return "refusal" if is_refused else None


@dataclass
class Repetition(AnswerFilter):
    """Refuses answers that repeat themselves.

    The share of repeated word n-grams counts; unlike that of repeated words it does not grow with length. A word of
    more than 40 characters, which no language has, counts as its characters.

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
        words = words_of(normalise(answer))
        grams = ngrams([part for word in words for part in (word if len(word) > _LONGEST_WORD else [word])], self.n)
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
    if reason:
        bench.counts[reason] += 1
    elif unknown_marks(answer) is not None:
        bench.counts[_UNKNOWN_MARKS] += 1
    return reason
