"""Which choices, letters as of an exam, an answer gives: the one that it says is the answer, or else all it names.

A choice is named by a capital, or by a letter in front of a mark ("b)"); the article "A" and "I think" name none. What
an answer denies ("not A", "B and C are wrong", "neither A nor B") it does not give.
"""

import re

_END = r"(?![\w'\u2019])"
_VERB = r"(?:is|are|was|were|seems?|looks?|would|could|can|must|does|do)"
_NOT = r"(?:n['\u2019]t|\s*not)\b"
_SAYS = rf"(?:is|was|would|could|must|does|seems|looks)(?:{_NOT})?"
_NO_NOUN = rf"(?:{_SAYS}|can(?:{_NOT}| be)|because|since|as|for|and|n?or|not|but)\b"
_ALONE = rf"(?:[B-HJ-Z]|A(?!\s+(?!{_NO_NOUN})[a-z])|I(?!\s+(?!is\b|because\b)[a-z])){_END}"
_CHOICE = rf"{_ALONE}|[a-z](?=[).:\]*\"\u201d]|\s*$)"
_ONLY = r"(?!\W{0,3}\s*(?:(?i:n?or|and)\b|/)\W{0,3}\s*[A-Z]\b)"  # "A or B" decides for neither
_CHOSEN = re.compile(
    r"(?:\b(?i:answer|choice|option|verdict|winner|better|best)\b\W{0,3}(?:[:=\uff1a]|\b(?i:is)\b)\W{0,6}|boxed\{|\[\[\s*)"
    rf"({_CHOICE}|[b-hj-z]{_END}){_ONLY}"
)
_NAMED = re.compile(rf"(?<![\w'\u2019])({_CHOICE})")
_LETTER = rf"(?:(?i:the\s+)?(?i:answer|option|choice)s?\s+)?\W{{0,3}}{_ALONE}"
_LETTERS = rf"{_LETTER}(?:(?:\s*,\s*{_LETTER})*\W{{0,3}}\s*(?:/|\b(?i:and|n?or)\b)\s*{_LETTER})?"
_WRONG = r"(?i:wrong|incorrect|false|ruled out|eliminated|excluded)\b"
_RIGHT = r"(?:(?:be\s+)?(?:the\s+|an?\s+)?(?:right|correct|true|valid|supported|best|answer|hold|fit)\b|[.,;!]|$)"
_DENIED = re.compile(
    r"(?:\b(?i:not|neither|rul(?:es?|ing) out|eliminat\w+|exclud\w+)|n['\u2019]t)\s+(?:(?:be|choose|pick|select)\s+)?"
    rf"{_LETTERS}|(?<![\w'\u2019]){_LETTERS}\W{{0,3}}\s*"
    rf"(?:{_VERB}(?:{_NOT}(?=\s*{_RIGHT})|\s+(?:be\s+)?(?:\w+ly\s+|also\s+)?{_WRONG})|{_WRONG})"
)


def choices(said: str) -> set[str]:
    """Capitals of the choices that an answer gives; empty if it names none, or none that it does not deny."""
    left = _DENIED.sub(" ", said)
    chosen = set(map(str.upper, _CHOSEN.findall(left)))
    return chosen if len(chosen) == 1 else set(map(str.upper, _NAMED.findall(left)))


def as_choice(answer: str) -> str | None:
    """The capital of an accepted answer that is one letter, whatever marks are around it ("A", "(b)"); else `None`."""
    letter = re.sub(r"[\W_]", "", answer)
    return letter.upper() if len(letter) == 1 and letter.isascii() and letter.isalpha() else None
