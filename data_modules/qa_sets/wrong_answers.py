"""Plausible wrong answers, taken from passages that do not hold the right one. Pure functions.

Candidates are found by kind: a date is replaced by a date, a number by a number, a name by a name.
The rules are regular expressions over capital letters, digits and punctuation; they need no model
and know English best. Chinese text is cut at its punctuation.
"""

import random
import re
from collections.abc import Callable, Iterator, Sequence

from data_modules.qa_sets.matching import CJK, CONNECTORS, STOPWORDS, has_words, normalise
from data_modules.records import Passage

_MONTH = "(?:January|February|March|April|May|June|July|August|September|October|November|December)"
_DATE = re.compile(
    rf"\b(?:\d{{1,2}} {_MONTH},? \d{{3,4}}|{_MONTH} \d{{1,2}},? \d{{3,4}}|{_MONTH},? \d{{3,4}}"
    rf"|{_MONTH} \d{{1,2}}|\d{{1,2}} {_MONTH})\b|\d{{3,4}}\u5e74(?:\d{{1,2}}\u6708(?:\d{{1,2}}\u65e5)?)?"
)
_YEAR = re.compile(r"(?<![\d,.])(?:1\d{3}|20\d{2})(?![\d,]|\.\d)s?")
_NUMBER_WORDS = "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|fifty|hundreds|thousands"
_NUMBER = re.compile(
    rf"[$\u00a3\u20ac]?(?<![\d,.])\d[\d,]*(?:\.\d+)?(?:%| percent| thousand| million| billion)?"
    rf"|\b(?:{_NUMBER_WORDS})\b"
)
_CALENDAR = (
    "january february march april may june july august september october november december "
    "monday tuesday wednesday thursday friday saturday sunday inc ltd"
)
_NOT_NAMES = set(_CALENDAR.split())
_PHRASE_END = re.compile(r"[^\w\s'-]+")
_CLAUSE_END = re.compile(
    r"[\s,.;:!?()\[\]\"\u00b7\u2018-\u201d\u3001\u3002\u3008-\u300f\uff01\uff08\uff09\uff0c\uff1a\uff1b\uff1f]+"
)
# A full stop after a single letter is an initial ("Franklin D. Roosevelt"), not the end of a sentence.
_SENTENCE_END = re.compile(r"(?<=\w\w[.!?])\s+")
_NAME_END = re.compile(r"[,;:()\[\]\"\u201c\u201d!?]+|(?<=\w\w)[.]$|\s-+\s")
_MAX_WORDS = 12


def wrong_answers(
    question: str, answers: Sequence[str], passages: Sequence[Passage], count: int, rng: random.Random
) -> tuple[str, ...]:
    """Different plausible wrong answers, the likeliest to be mistaken for the right one first.

    Args:
        question: what is asked; nothing that it says already is a wrong answer.
        answers: gold answer first, aliases after it.
        passages: where candidates come from.
        count: how many are wanted.
        rng: decides between equally good candidates.

    Returns:
        At most `count` texts, none equal to, inside, or around a gold answer; fewer, down to none,
        if the passages do not hold enough.
    """
    gold, plain_question = [normalise(answer) for answer in answers], normalise(question)
    if gold[0] in ("yes", "no"):
        return ("no" if gold[0] == "yes" else "yes",)[:count]
    by_form: dict[str, str] = {}  # normal form -> wrong answer as it is written
    for find in _finders(answers[0]):
        # Shuffled, then sorted stably: the likest first, equally like ones in an order that the seed draws.
        candidates = sorted({text for passage in passages for text in find(passage)})
        rng.shuffle(candidates)
        for text in sorted(candidates, key=lambda text: _distance(text, answers[0])):
            form = normalise(text)
            if form not in by_form and _is_wrong(form, gold, plain_question):
                by_form[form] = text.strip()
        if len(by_form) >= count:
            break
    return tuple(by_form.values())[:count]


def _is_wrong(candidate: str, gold: Sequence[str], question: str) -> bool:
    if not candidate or len(candidate.split()) > _MAX_WORDS or has_words(question, candidate):
        return False
    return not any(candidate in answer or answer in candidate for answer in gold)


def _finders(answer: str) -> list[Callable[[Passage], Iterator[str]]]:
    """Where to look for something like `answer`: its own kind first, then whatever there is."""
    answer = answer.strip()
    if CJK.search(answer) and len(answer) > _MAX_WORDS:
        return [_clauses]
    kinds = [pattern for pattern in (_DATE, _YEAR, _NUMBER) if pattern.fullmatch(answer)]
    if any(mark.isdigit() for mark in answer):
        # "19th century" -> "18th century", "836 people" -> "52 people": the same words around other digits
        same_words = re.sub(r"\d+", r"\\d+", re.escape(answer))
        alike = re.compile(rf"(?<![\d,.]){same_words}(?!\d)")
        kinds += [alike, *((_DATE, _YEAR, _NUMBER) if kinds and kinds[0] is _DATE else (_NUMBER, _DATE))]
    same_kind = [_matches(pattern) for pattern in kinds]
    if CJK.search(answer):
        return [*same_kind, _clauses]
    return [*same_kind, _names if answer[:1].isupper() or same_kind else _phrases_like(answer), _names, _clauses]


def _matches(pattern: re.Pattern[str]) -> Callable[[Passage], Iterator[str]]:
    return lambda passage: (match.group().rstrip(",") for match in pattern.finditer(passage.text))


def _names(passage: Passage) -> Iterator[str]:
    """The title without its bracketed part, and every run of capitalised words in the text."""
    yield re.sub(r"\s*\(.*?\)", "", passage.title.replace("_", " ")).strip()
    for sentence in _SENTENCE_END.split(passage.text):
        for number, clause in enumerate(_NAME_END.split(sentence)):
            for run in _capital_runs(clause, at_start=number == 0):
                if not all(word.casefold() in _NOT_NAMES for word in run.split()):
                    yield run


def _capital_runs(clause: str, *, at_start: bool) -> Iterator[str]:
    """Runs of capitalised words; a single one at the start of a sentence need not be a name."""
    run: list[str] = []
    for number, raw in enumerate([*clause.split(), ""]):  # the empty word closes a run at the clause's end
        word = re.sub(r"['\u2019]s$", "", raw)
        continues = word[:1].isupper() or (bool(run) and word in CONNECTORS)
        if continues:
            run.append(word)
        if run and (not continues or word != raw):  # a possessive ends its run: "Ada's mentor"
            end = number if continues else number - 1
            if not (at_start and end == 0):
                yield _trimmed(run)
            run = []


def _phrases_like(answer: str) -> Callable[[Passage], Iterator[str]]:
    """Runs of as many lower-case words as the answer has, not starting or ending with a stop word."""
    size = len(answer.split())

    def find(passage: Passage) -> Iterator[str]:
        for clause in _PHRASE_END.split(passage.text):
            words = clause.split()
            for start in range(len(words) - size + 1):
                part = words[start : start + size]
                if _trimmed(part) == " ".join(part) and all(word[0].islower() for word in part):
                    yield " ".join(part)

    return find


def _clauses(passage: Passage) -> Iterator[str]:
    """What stands between two punctuation marks or spaces."""
    yield from _CLAUSE_END.split(passage.text)


def _trimmed(words: list[str]) -> str:
    """The words without stop words at either end."""
    while words and words[0].casefold() in STOPWORDS:
        words = words[1:]
    while words and words[-1].casefold() in STOPWORDS:
        words = words[:-1]
    return " ".join(words)


def _distance(candidate: str, answer: str) -> tuple[int, int]:
    """How little a candidate looks like the answer: first by its digits, then by its length."""
    if not any(mark.isdigit() for mark in answer):
        return 0, _length_gap(candidate, answer)
    shapes = [re.sub(r"\d", "0", re.sub(_MONTH, "M", text)) for text in (candidate, answer)]
    loose = [re.sub("0+", "0", shape) for shape in shapes]
    return (shapes[0] != shapes[1]) + (loose[0] != loose[1]), _length_gap(candidate, answer)


def _length_gap(candidate: str, answer: str) -> int:
    """Difference in words; in characters for text without spaces."""
    if CJK.search(answer):
        return abs(len(candidate) - len(answer))
    return abs(len(candidate.split()) - len(answer.split()))
