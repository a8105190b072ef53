"""Plausible wrong answers, read in passages. Pure functions.

Candidates are found by kind: a date is replaced by a date, a number by a number, a name by a name.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from data_modules.qa_sets.answer_kinds import MAX_WORDS, Finder, distance, finders_of, kinds_of
from data_modules.qa_sets.matching import STOPWORDS, has_words, normalise
from data_modules.records import Passage

_SMALL_NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve"
_NUMBER_VALUES = {word: str(value) for value, word in enumerate(_SMALL_NUMBERS.split())}
_NUMBER_VALUES |= {"twenty": "20", "thirty": "30", "fifty": "50"}
# What a sentence may start with, and no name does.
_OPENS = "despite following according although unlike including due along among like later several"
_HELPS = "can could may might must shall should will would has had have did does do"
_OPENERS, _AUXILIARIES = set(_OPENS.split()), set(_HELPS.split())
_ENDINGS = ("ing", "ed", "ly", "tion", "ity", "ment", "ness", "ous", "ive", "al", "s")


@dataclass(frozen=True)
class WrongAnswer:
    """A wrong answer and where it was read.

    Args:
        place: number of the place, in the order they were searched.
    """

    text: str
    place: int


def read_wrong_answers(
    question: str,
    answers: Sequence[str],
    places: Sequence[Sequence[Passage]],
    count: int,
    rng: random.Random,
) -> tuple[WrongAnswer, ...]:
    """Different wrong answers that a reader of these passages could give, the likeliest mistakes first.

    Those of the answer's own kind come first, then those with as many words, then those of an earlier place. The
    last place, too, is searched for the own kind before anything of another kind is taken.

    Args:
        question: what is asked; nothing that it says already is a wrong answer.
        answers: gold answer first, aliases after it. Passages may hold them.
        places: passages to read, the best ones first, the last ones only where the others hold nothing of the kind.
        count: how many are wanted.
        rng: decides between equally good candidates.

    Returns:
        At most `count`, none equal to, inside, or around a gold answer, and none that could be another name of it:
        a name that shares a word with it, its initials, the same number in other words.
    """
    gold, plain_question = [normalise(answer) for answer in answers], normalise(question)
    if gold[0] in ("yes", "no"):
        return (WrongAnswer("no" if gold[0] == "yes" else "yes", 0),)[:count]
    answer = answers[0].strip().rstrip(".,;:!?") or answers[0]  # as it would stand inside a sentence
    near, far = dict(enumerate(places[:-1])), {len(places) - 1: places[-1]}
    own, other = kinds_of(answer)
    of_gold = [_content_words(text) for text in answers]
    found = dict[str, WrongAnswer]()  # by normal form
    for find, where in [(find, where) for kind in (own, other) for where in (near, far) for find in kind]:
        for wrong in _ranked(find, where, answer, rng):
            form = normalise(wrong.text)
            if form not in found and _is_wrong(form, gold, plain_question) and not _may_be_right(wrong.text, of_gold):
                found[form] = wrong
        if len(found) >= count:
            break
    return tuple(found.values())[:count]


def _ranked(find: Finder, places: dict[int, Sequence[Passage]], answer: str, rng: random.Random) -> list[WrongAnswer]:
    """Candidates of some places, each once and in the first that holds it: the most similar first, then by place."""
    first = dict[str, int]()
    for place, passages in places.items():
        for text in sorted({text.strip() for passage in passages for text in find(passage)}):
            first.setdefault(text, place)
    candidates = [WrongAnswer(text, place) for text, place in first.items() if _can_stand_alone(text)]
    rng.shuffle(candidates)
    role = _role_in([passage.text for passages in places.values() for passage in passages], answer)
    return sorted(candidates, key=lambda wrong: (*distance(wrong.text, answer), role(wrong.text), wrong.place))


def _can_stand_alone(text: str) -> bool:
    """Whether it can be read as an answer: no piece of a sentence that a capital letter, or a verb, holds together."""
    words = text.casefold().split(" ")
    return words[0] not in _OPENERS and not _AUXILIARIES.intersection(words)


def _role_in(texts: Sequence[str], answer: str) -> Callable[[str], int]:
    """How differently from the answer a phrase is used, 0 to 2: other small words before it, another ending."""
    if not answer[:1].islower():
        return lambda phrase: 0
    text, ending = " ".join(texts), _ending(answer)

    def before(phrase: str) -> set[str]:
        pieces = text.split(f" {phrase}")[:-1]  # every one ends with the word before an occurrence
        return STOPWORDS.intersection(piece[-12:].rpartition(" ")[2].casefold() for piece in pieces)

    of_answer = before(answer)
    return lambda phrase: (not of_answer & before(phrase)) + (_ending(phrase) != ending)


def _ending(phrase: str) -> str:
    return next((ending for ending in _ENDINGS if phrase.endswith(ending)), "")


def _may_be_right(candidate: str, gold: Sequence[list[str]]) -> bool:
    """Whether a passage that holds the answer, of whose names these are the words, could mean the same by others."""
    words = _content_words(candidate)
    return not words or any(_mean_the_same(words, answer) for answer in gold)


def _mean_the_same(words: list[str], gold: list[str]) -> bool:
    one, other = set(words), set(gold)
    if other and (one <= other or other <= one):
        return True
    digits, of_gold = ({word for word in part if any(map(str.isdigit, word))} for part in (one, other))
    if digits:  # "18th century" is another than "19th century"
        return digits == of_gold
    return bool(one & other) or _initials(gold) == "".join(words) or _initials(words) == "".join(gold)


def _content_words(text: str) -> list[str]:
    """Words in normal form without stop words; numbers as digits without separators."""
    words = normalise(re.sub(r"(?<=\d),(?=\d)", "", text)).split()
    return [_NUMBER_VALUES.get(word, word) for word in words if word not in STOPWORDS or len(words) == 1]


def _initials(words: list[str]) -> str:
    return "".join(word[0] for word in words) if len(words) > 1 else ""


def wrong_answers(
    question: str, answers: Sequence[str], passages: Sequence[Passage], count: int, rng: random.Random
) -> tuple[str, ...]:
    """Different plausible wrong answers from passages without the right one, the likeliest to be mistaken for it first.

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
    for find in finders_of(answers[0]):
        # Shuffled, then sorted stably: the most similar first, equally similar ones in an order that the seed draws.
        candidates = sorted({text for passage in passages for text in find(passage)})
        rng.shuffle(candidates)
        for text in sorted(candidates, key=lambda text: distance(text, answers[0])):
            form = normalise(text)
            if form not in by_form and _is_wrong(form, gold, plain_question):
                by_form[form] = text.strip()
        if len(by_form) >= count:
            break
    return tuple(by_form.values())[:count]


def _is_wrong(candidate: str, gold: Sequence[str], question: str) -> bool:
    if not candidate or len(candidate.split()) > MAX_WORDS or has_words(question, candidate):
        return False
    return not any(candidate in answer or answer in candidate for answer in gold)
