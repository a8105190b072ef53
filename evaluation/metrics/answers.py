"""Scores of a short answer against accepted ones: substring, token overlap, equality; in any script.

English and other texts with spaces follow SQuAD's official normalisation and `sub_em`, which drops points and signs of
numbers, too: 3.14, 314 and -314 are one. An answer with Chinese or Japanese characters is compared without any
punctuation and white space, and its tokens are those characters (and the words between them), as MLQA's official script
does it for Chinese. Words that Thai, Lao, Burmese and Khmer join are one token each, as in XQuAD, which is scored by
SQuAD's script. A letter and its accent are one character, however a file writes them.

Beyond SQuAD's script, which knows ASCII alone, typographic quotes and dashes are the ASCII ones, punctuation of other
scripts counts as little as theirs (as in MLQA's script: a danda, an Arabic comma, guillemets), all other signs are as
they are typed (`lit_longpo.plain_signs`: digits of every script, H₂O, ½, ligatures), letters whose capitals are others
are one with these (ß and SS, İ and I), and what is not drawn (zero-width spaces) is left out. Sub-EM takes an answer of
one letter for a choice (`lit_longpo.choices`); F1 and EM compare words.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal
from unicodedata import category

from evaluation.metrics.text import PUNCTUATION, english_tokens, normalize_answer, normalize_chinese, token_f1
from lit_longpo.choices import as_choice, gives
from lit_longpo.plain_signs import caseless, plain_signs

AnswerScore = Literal["sub_em", "f1", "em"]

_CHARACTER = r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
_HAS_CHARACTER = re.compile(_CHARACTER)
_JOINED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")  # Thai, Lao, Burmese, Khmer
_APOSTROPHES, _QUOTES = "\u2018\u2019\u201a\u201b\u2032\u02bc\u00b4", "\u201c\u201d\u201e\u201f\u2033"
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
_UNSEEN = "\u00ad\u200b\u200d\u200e\u200f\u2060\ufeff"
_ASCII = str.maketrans(_APOSTROPHES + _QUOTES + _DASHES, "'" * 7 + '"' * 5 + "-" * 7, _UNSEEN)
_TOKEN = re.compile(rf"{_CHARACTER}|(?:(?!{_CHARACTER})\S)+")


def contains_answer(prediction: str, answer: str) -> float:
    """1 if the normalised answer is part of the normalised prediction: `sub_em` of one answer.

    An article ("the") has to be a word of the prediction, and a letter a choice that it gives: as characters they are
    in nearly every text.
    """
    if letter := as_choice(answer):
        return float(gives(prediction, letter))
    whole = " " * _is_article(answer)
    return float(f"{whole}{_plain(answer, answer)}{whole}" in f"{whole}{_plain(prediction, answer)}{whole}")


def answer_f1(prediction: str, answer: str) -> float:
    """Harmonic mean of precision and recall over tokens."""
    return token_f1(_tokens(prediction, answer), _tokens(answer, answer))


def exact_match(prediction: str, answer: str) -> float:
    """1 if both are the same when normalised."""
    return float(_plain(prediction, answer) == _plain(answer, answer))


ANSWER_SCORES: Mapping[AnswerScore, Callable[[str, str], float]] = {
    "sub_em": contains_answer,
    "f1": answer_f1,
    "em": exact_match,
}


def is_short(answer: str) -> bool:
    """Whether of an answer one or two letters or digits are left, which `contains_answer` finds inside of words."""
    left = _plain(answer, answer)
    return len(left) <= 2 and left.isascii()


def joins_words(answer: str) -> bool:
    """Whether an answer is in a script that joins words: F1 would take all between two spaces for one word."""
    return bool(_JOINED.search(answer))


def best_score(name: AnswerScore, prediction: str, answers: Sequence[str]) -> float:
    """The score of the accepted answer that fits best; 0 without any."""
    return max((ANSWER_SCORES[name](prediction, answer) for answer in answers), default=0.0)


def _ascii(text: str) -> str:
    """The text in small composed letters, and with ASCII characters in the place of what only looks otherwise."""
    return caseless(plain_signs(text.translate(_ASCII)))


def _marks_as_ascii(text: str) -> str:
    """The text with a comma for each punctuation mark that is not ASCII: what removes ASCII's removes it, too."""
    return "".join(sign if sign.isascii() or not category(sign).startswith("P") else "," for sign in text)


def _with_ascii_marks(text: str, answer: str) -> tuple[str, str]:
    """Both with their marks as ASCII; as they stand if the answer is nothing but marks: one is not another."""
    more = bool(_marks_as_ascii(answer).translate(PUNCTUATION).strip())
    return (_marks_as_ascii(text), _marks_as_ascii(answer)) if more else (text, answer)


def _bare(text: str) -> str:
    """Lower case, no punctuation of any script, no white space; LongBench's list of Chinese marks has gaps."""
    return "".join(character for character in normalize_chinese(text) if not category(character).startswith("P"))


def _is_bare(answer: str) -> bool:
    """Whether an answer is in Chinese or Japanese, and more than a mark of these."""
    return bool(_HAS_CHARACTER.search(answer) and _bare(answer))


def _is_article(answer: str) -> bool:
    """Whether an answer is words, and all of them articles: the first of several choices, for example."""
    return bool(answer.translate(PUNCTUATION).strip()) and not normalize_answer(answer)


def _plain(text: str, answer: str) -> str:
    """The text as it is compared with an answer.

    An answer that is nothing but articles and punctuation ("A", "?") is compared with its articles, or else as it
    stands: normalised it would be empty, which is part of everything.
    """
    return ("" if _is_bare(_ascii(answer)) else " ").join(_tokens(text, answer))


def _tokens(text: str, answer: str) -> list[str]:
    text, answer = (_ascii(part) for part in (text, answer))
    if _is_bare(answer):
        return [token for piece in _TOKEN.findall(text) if (token := _bare(piece))]
    text, answer = _with_ascii_marks(text, answer)
    return english_tokens(text) if normalize_answer(answer) else _words(text, answer)


def _words(text: str, answer: str) -> list[str]:
    """The text's words with their articles; with their punctuation, too, if the answer has nothing else."""
    return (text.translate(PUNCTUATION) if _is_article(answer) else text).split()
