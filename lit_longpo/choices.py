"""Which choices, letters as of an exam, an answer gives: the one that it says is the answer, or else all it names.

A choice is named by a capital, or by a letter in front of a mark ("b)"); an article that begins a sentence ("A car")
and "I think" name none. What an answer denies ("not A", "B and C are wrong", "neither A nor B") it does not give.
"""

import re

_WORD = r"[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"  # letters and digits but for those of scripts that join words
_BEGIN, _END = rf"(?<!{_WORD})(?<!['\u2019])", rf"(?!{_WORD}|['\u2019+#])"  # C++ and C# are no choice
_VERB = r"(?:is|are|was|were|seems?|looks?|would|could|can|must|does|do)"
_NOT = r"(?:n['\u2019]t|\s*not)\b"
_SAYS = rf"(?:is|was|would|could|must|does|seems|looks)(?:{_NOT})?"
_NO_NOUN = rf"(?:{_SAYS}|can(?:{_NOT}| be)|because|since|as|for|and|n?or|not|but)\b"
_ALONE = rf"(?:[B-HJ-Z]|A(?!\s+(?!{_NO_NOUN})[a-z])|(?<=[^.!?:\s] )A|I(?!\s+(?!is\b|because\b)[a-z])){_END}"
_CHOICE = rf"{_ALONE}|[a-z](?=[).:\]*\"\u201d]|\s*$)"
# "A or B" and "(A, C)" decide for neither.
_ONLY = r"(?!\W{0,3}\s*(?:(?i:n?or|and)\b|/)\W{0,3}\s*[A-Z]\b|\s*,\s*[A-Z]\s*(?:[),.\]\n]|$|(?:and|or)\b))"
_NAMES = r"(?i:answer|choice|option|verdict|winner|better|best)"
# The answer is, (the) option; is not right, is wrong.
_CHINESE = r"(?:\u7b54\u6848|\u6b63\u89e3)(?:\u662f|\u4e3a)?|(?:\u6545|\u5e94|\u53ea\u6709)?\u9009(?:\u62e9|\u9879)?"
_CHOSEN = re.compile(
    rf"(?:\b{_NAMES}\b\W{{0,3}}(?:[:=\uff1a]|\b(?i:is)\b)\W{{0,6}}|boxed\{{|\[\[\s*|(?:{_CHINESE})\W{{0,3}})"
    rf"({_CHOICE}|[b-hj-z]{_END}){_ONLY}"
)
_NAMED = re.compile(rf"{_BEGIN}({_CHOICE})")
_LETTER = rf"(?:(?i:the\s+)?(?i:answer|option|choice)s?\s+)?[(\[*\"\u201c]{{0,3}}{_ALONE}[)\]*\"\u201d]{{0,3}}"
_LETTERS = rf"{_LETTER}(?:(?:\s*,\s*{_LETTER})*\s*(?:/|\b(?i:and|n?or)\b)\s*{_LETTER})?"
_WRONG = r"(?i:wrong|incorrect|false|ruled out|eliminated|excluded)\b"
_RIGHT = r"(?:(?:be\s+)?(?:the\s+|an?\s+)?(?:right|correct|true|valid|supported|best|answer|hold|fit)\b|[.,;!]|$)"
_NOT_IN_CHINESE = r"\u9879?\s*(?:\u662f)?(?:\u4e0d\u5bf9|\u4e0d\u6b63\u786e|\u9519\u8bef|\u9519)"
_DENIED = re.compile(
    r"(?:\b(?i:not|neither|rul(?:es?|ing) out|eliminat\w+|exclud\w+)|n['\u2019]t)\s+(?:(?:be|choose|pick|select)\s+)?"
    rf"{_LETTERS}|(?:\u4e0d\u662f|\u4e0d\u9009)\s*{_LETTER}"
    rf"|\b{_WRONG}(?:\s+\w+)?\s*:\s*{_LETTER}(?:\s*,\s*{_LETTER})*"
    rf"|{_BEGIN}{_LETTERS}[\s:(\u2013-]*"
    rf"(?:{_VERB}(?:{_NOT}(?=\s*{_RIGHT})|\s+(?:be\s+)?(?:\w+ly\s+|also\s+)?{_WRONG})|{_WRONG}(?!\s*:)|{_NOT_IN_CHINESE})"
)


def choices(said: str) -> set[str]:
    """Capitals of the choices that an answer gives; empty if it names none, or none that it does not deny."""
    left = without_denied(said)
    chosen = decided(left)
    return chosen if len(chosen) == 1 else set(map(str.upper, _NAMED.findall(left)))


def gives(said: str, letter: str) -> bool:
    """Whether an answer gives a choice; one in small letters other than "a" and "i" (a variable) is any word of it."""
    if letter.islower() and letter not in "ai" and re.search(rf"{_BEGIN}{letter}{_END}", said):
        return True
    return letter.upper() in choices(said)


def decided(said: str) -> set[str]:
    """Capitals of the choices that a text says are the answer."""
    return set(map(str.upper, _CHOSEN.findall(said)))


def without_denied(said: str) -> str:
    """A text without the choices that it denies."""
    return _DENIED.sub(" ", said)


def as_choice(answer: str) -> str | None:
    """The letter of an accepted answer that is one, whatever marks are around it ("A", "(b)"); else `None`."""
    letter = re.sub(r"[\W_]", "", answer)
    is_letter = len(letter) == 1 and letter.isascii() and letter.isalpha() and not re.search(r"[+#]", answer)
    return letter if is_letter else None
