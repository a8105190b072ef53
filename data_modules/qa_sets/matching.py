"""When do two texts say the same? Normal form, whole words, n-grams. Pure functions."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

from data_modules.records import Passage
from lit_longpo.plain_signs import caseless, plain_signs

CONNECTORS = {"of", "the", "de", "la", "von", "van", "and", "&", "du", "del", "der", "for", "in"}
_FUNCTION_WORDS = (
    "a an he she it its they their his her this that these those there was were is are be been on at by to "
    "as or but from with when while after before during since until into than then which who whom whose what "
    "where how not no also both each other some such many most one first we you i if so although however "
    "because"
)
STOPWORDS = CONNECTORS | set(_FUNCTION_WORDS.split())
# Chinese, Japanese, Korean, Thai, Lao, Burmese, Khmer: words are not set apart, or endings are written on to them.
_JOINED = r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\U00020000-\U0003ffff]"
JOINED = re.compile(_JOINED)
# How a sign before them is drawn (marks by category), and what is not drawn at all.
_VARIANTS = re.compile(r"[\ufe00-\ufe0f\U000e0100-\U000e01ef\u00ad\u200b\u200d-\u200f\u2060\ufeff]")
_WORD = re.compile(rf"{_JOINED}|(?:(?!{_JOINED})\S)+")
_GROUPED = re.compile(
    r"(?<![\d.,])\d{1,3}(?:(?:[,\u066c]\d{3})+|(?:['\u2019]\d{3})+|(?:[\u00a0\u2009\u202f]\d{3})+)(?!\d)"
)
_DECIMAL = re.compile(r"(?<![\d.])(\d+\.\d+)(?!\.?\d)")  # 3.5, but no date or version of three parts
# A minus stands before a number and behind no letter, digit or other dash; hyphens and other dashes stand elsewhere.
_BEHIND_NO_WORD = rf"(?<![^\W{_JOINED[1:-1]}])(?<![)\]])"
_MINUS = re.compile(rf"{_BEHIND_NO_WORD}(?<![-\u2010-\u2015])[-\u2212\u2013](?=\.?\d)")
_NO_ZERO = re.compile(rf"(?<!\.){_BEHIND_NO_WORD}\.(?=\d)")  # .5
_LETTER = r"[^\W\d_]"
_INITIALS = re.compile(  # U.S., U.S.A, J. K.; before a name J K, too
    rf"(?<!\w){_LETTER}\.(?:\s?{_LETTER}\.)*(?:\s?{_LETTER}\.|{_LETTER}(?!\w))|(?<!\w)[A-Z](?: [A-Z])+(?= [A-Z]\w)"
)
_PRONOUN = re.compile(r"\b([Ll]et|[Tt]ells?|told|gives?|gave|shows?|allows?|helps?) us\b")  # "Let us see" is no country
_NO_CENTS = re.compile(r"\.00?$")


@lru_cache(maxsize=1 << 14)  # the same passages are compared with the answers of many questions
def normalise(text: str) -> str:
    """Lower case, letters and digits only, single spaces; the form in which answers are compared.

    Letters keep the marks on them, which are the vowels of many scripts: water and to find are one in Hindi without.
    A number is one word, with its minus: 1,000 is 1000, 5.00 is 5, .5 is 0.5, and neither 2 nor 5 is in 2.5 or -5.
    Python 3.10 is not 3.1, and 1.000 may be a thousand; 1'000, or 1 000 with a space that breaks no line, is 1000.
    Signs are left out: 5 %, $5 and 5 are one. Initials are one word: U.S. is US; J. K., J.K. and J K (Rowling) are JK.
    """
    grouped = _GROUPED.sub(lambda found: "".join(re.findall(r"\d", found[0])), text)
    plain = _PRONOUN.sub(r"\1 we", _VARIANTS.sub("", plain_signs(grouped)))
    joined = _INITIALS.sub(lambda found: re.sub(r"[.\s]", "", found[0]) + " ", plain)
    signed = "-".join(part.replace("-", " ") for part in _MINUS.split(caseless(joined)))
    parts = _DECIMAL.split(_NO_ZERO.sub("0.", signed))
    parts[::2] = ("".join(char if _is_spoken(char) else " " for char in part) for part in parts[::2])
    parts[1::2] = (_NO_CENTS.sub("", number) for number in parts[1::2])
    return " ".join("".join(parts).split())


def _is_spoken(char: str) -> bool:
    return char.isalnum() or char == "-" or unicodedata.category(char) in ("Mn", "Mc")


def words_of(plain: str) -> list[str]:
    """Words of normalised text; of `JOINED` scripts single characters."""
    return _WORD.findall(plain)


def holds(text: str, answer: str) -> bool:
    """Whether normalised text holds a normalised answer: as whole words, or characters where words are `JOINED`.

    A number or a name in Latin letters between characters is a word. An empty answer is nowhere.
    """
    if not JOINED.search(answer):
        return bool(answer) and has_words(" ".join(words_of(text)), answer)
    if answer[0].isdecimal() or answer[-1].isdecimal():
        return _whole_number(answer).search(text) is not None
    return answer.replace(" ", "") in text.replace(" ", "")


@lru_cache(maxsize=1 << 10)
def _whole_number(answer: str) -> re.Pattern[str]:
    """Finds an answer of a `JOINED` script; a number that it begins or ends with is no part of a longer one."""
    before = r"(?<![\d.-])" if answer[0].isdecimal() else ""
    after = r"(?!\.?\d)" if answer[-1].isdecimal() else ""
    return re.compile(before + r"\s*".join(map(re.escape, answer.replace(" ", ""))) + after)


def mentions(text: str, answers: Iterable[str]) -> bool:
    """Whether a passage holds one of the answers.

    Answers of up to three letters have to be whole words ("US" is not in "famous"); "yes" and "no"
    are never mentioned.
    """
    text = normalise(text)
    for answer in map(normalise, answers):
        if not answer or answer in ("yes", "no"):
            continue
        is_short = len(answer) <= 3 or bool(JOINED.search(answer))
        is_there = holds(text, answer) if is_short else answer in text
        if is_there:
            return True
    return False


def answered_by(answers: Iterable[str], passages: Iterable[Passage]) -> bool:
    """Whether a supporting passage holds one of the answers, as characters; "yes" and "no" are read from any.

    A piece of the text is held whatever its ends cut: XQuAD has "7,000,000 square kilometres (2,70".
    """
    texts = [f"{passage.title} {passage.text}" for passage in passages if passage.supporting]
    plain = [normalise(text) for text in texts]

    def is_held(answer: str) -> bool:
        if any(answer in text for text in texts):
            return True
        wanted = normalise(answer)
        return wanted in ("yes", "no") or (bool(wanted) and any(wanted in text for text in plain))

    return any(map(is_held, answers))


def has_words(text: str, words: str) -> bool:
    """Whether normalised text holds these words side by side, as whole words ("no" is not in "north")."""
    return f" {words} " in f" {text} "


def ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """All runs of n words; the whole text if it is shorter and not empty."""
    if len(words) < n:
        return [tuple(words)] if words else []
    return [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
