"""What in a passage is of an answer's kind: dates, numbers, names, phrases. Pure functions.

The rules are regular expressions over capital letters, digits and punctuation; they need no model and know English
best. Chinese text is cut at its punctuation.
"""

import re
from collections.abc import Callable, Iterator

from data_modules.qa_sets.matching import CONNECTORS, JOINED, STOPWORDS
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
MAX_WORDS = 12
Finder = Callable[[Passage], Iterator[str]]


def finders_of(answer: str) -> list[Finder]:
    """Where to look for something like `answer`: its own kind first, then whatever there is."""
    answer = answer.strip()
    if JOINED.search(answer) and len(answer) > MAX_WORDS:
        return [_clauses]
    kinds = _full_kinds(answer)
    if any(mark.isdigit() for mark in answer):
        kinds += [_alike(answer), *((_DATE, _YEAR, _NUMBER) if kinds and kinds[0] is _DATE else (_NUMBER, _DATE))]
    same_kind = [_matches(pattern) for pattern in kinds]
    if JOINED.search(answer):
        return [*same_kind, _clauses]
    return [*same_kind, _names if answer[:1].isupper() or same_kind else _phrases_like(answer), _names, _clauses]


def kinds_of(answer: str) -> tuple[list[Finder], list[Finder]]:
    """Where to look for what is of the answer's own kind, and for anything else."""
    answer, everything = answer.strip(), finders_of(answer)
    if len(everything) == 1:
        return everything, []
    own = [_matches(pattern) for pattern in _full_kinds(answer)]
    if any(mark.isdigit() for mark in answer):
        own.append(_matches(_alike(answer)))
    if answer[:1].isupper() and not _full_kinds(answer):  # "Super Bowl 50"
        own.append(_names)
    elif not own:
        own.append(_clauses if JOINED.search(answer) else _phrases_like(answer))
    return own, everything


def _full_kinds(answer: str) -> list[re.Pattern[str]]:
    """Which kinds of date and number the whole answer is."""
    return [pattern for pattern in (_DATE, _YEAR, _NUMBER) if pattern.fullmatch(answer)]


def _alike(answer: str) -> re.Pattern[str]:
    """The same words around other digits: "19th century" -> "18th century", "836 people" -> "52 people"."""
    same_words = re.sub(r"\d+", r"\\d+", re.escape(answer))
    return re.compile(rf"(?<![\d,.]){same_words}(?!\d)")


def _matches(pattern: re.Pattern[str]) -> Finder:
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


def _phrases_like(answer: str) -> Finder:
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


def distance(candidate: str, answer: str) -> tuple[int, int]:
    """How little a candidate looks like the answer: first by its digits, then by its length."""
    if not any(mark.isdigit() for mark in answer):
        return 0, _length_gap(candidate, answer)
    shapes = [re.sub(r"\d", "0", re.sub(_MONTH, "M", text)) for text in (candidate, answer)]
    loose = [re.sub("0+", "0", shape) for shape in shapes]
    return (shapes[0] != shapes[1]) + (loose[0] != loose[1]), _length_gap(candidate, answer)


def _length_gap(candidate: str, answer: str) -> int:
    """Difference in words; in characters for text without spaces."""
    if JOINED.search(answer):
        return abs(len(candidate) - len(answer))
    return abs(len(candidate.split()) - len(answer.split()))
