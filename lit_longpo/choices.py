"""Which choices, letters as of an exam, an answer gives: the one that it says is the answer, or else all it names.

Read in three steps. What an answer denies ("not A", "B and C are wrong", "neither A nor B") or sets below another
("C is better than A", "unlike A") is left out. The one that it says is right ("the answer is C", "So C."), begins with
("C. A dog") or ends with on a line of its own counts, if that is one. Else every letter counts that stands alone.
"""

import re
from unicodedata import normalize

_PART = r"[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"  # of a word; Chinese, Japanese and Korean ones touch letters
# A letter alone: none of "an", "I'm", "it's", "T-shirt", "C++", "R&D", "9 a.m.", "Ph.D."
_BEGIN = rf"(?<!{_PART})(?<![A-Za-z]['\u2019])(?<![A-Za-z]\.)(?<!&)"
_END = rf"(?!{_PART}|['\u2019-]{_PART}|[+#&]|\.[A-Za-z]\.)"
_NOT = r"(?:n['\u2019]t|\s*not)\b"
# "A is" and "A because" name a choice, "A car" and "I think" none; behind a word ("Type A blood") an article is small.
_GOES_ON = (
    rf"(?:(?:is|was|would|could|does|seems)(?:{_NOT})?|can(?:{_NOT}| be)|because|since|as|for|and|n?or|not|but)\b"
)
_ARTICLE = rf"(?<![^.!?:\s] )A\s+(?!{_GOES_ON})[a-z]"
_CAPITAL = rf"(?!{_ARTICLE}|I\s+(?!is\b|because\b)[a-z])[A-Z]{_END}"
_LETTER = rf"(?:{_CAPITAL}|[a-z](?=[).:\]*\"\u201d]|\s*$){_END})"  # "b)"
_NAMED = re.compile(rf"{_BEGIN}({_LETTER})")

_ONE = rf"(?:(?i:the\s+)?(?i:answer|option|choice)s?\s+)?[(\[*\"'\u201c]{{0,3}}{_CAPITAL}[)\]*\"'\u201d]{{0,3}}"
_SOME = rf"{_ONE}(?:(?:\s*,\s*{_ONE}){{0,9}}\s*,?\s*(?:/|\b(?i:and|n?or)\b)\s*{_ONE})?"  # "option A", "(A), B, and C"
_LISTED = rf"(?:\s*,\s*{_ONE}(?=\s*(?:[,.)\]]|$))){{0,9}}"  # "A, C." but not "A, C is close"

_DO = r"(?:(?:be|choose|pick|select|prefer)\s+)?"
_OVER = r"(?i:over|rather than|instead of)"

# Words that set one choice above another. Those of contents ("older than B") do not, nor does what is denied.
_ABOVE = (
    r"(?:better|stronger|superior|preferable|closer|more\s+(?:\w+ly\s+)?(?:accurate|appropriate|complete|comprehensive|"
    r"consistent|convincing|correct|faithful|fitting|helpful|likely|plausible|precise|probable|reasonable|relevant|"
    r"specific|suitable|supported))\b"
)
_VERB = r"(?:is|are|was|seems?|looks?|appears?|would be|fits?|matches|answers?|explains?)"
_HOW = r"(?:(?:an?|the|(?!hardly|scarcely)\w+ly|much|far|slightly|also)\s+){0,2}"
_BETTER = rf"{_BEGIN}{_ONE}\s*{_VERB}\s+{_HOW}{_ABOVE}[^.;:!?\n]{{0,60}}?"
_RESERVE = r"\b(?i:but|if|though|although|however|yet)\b"
_THAN = rf"\s(?:than|(?<=superior\s)to|(?<=preferable\s)to)\s+{_SOME}(?![^.;!?\n]*{_RESERVE})"
# What is kept of "I don't think B is better than A", "B is more likely than A", "all options except B are wrong".
_KEPT = (
    rf"(?P<doubted>(?:n['\u2019]t|\b(?i:not|false|whether|if))\s+(?:[a-z]+\s+){{0,3}}{_BETTER}{_THAN})"
    rf"|(?P<above>{_BETTER}){_THAN}"
    rf"|(?P<preferred>\b(?i:prefer)\w*\s+{_ONE})\s+to\s+{_SOME}"
    rf"|(?P<winner>{_BEGIN}{_ONE}\s+(?:beats|outperforms|surpasses))\s+{_SOME}"
    r"|(?P<left>\b(?i:all|any|each|every)(?:\s+(?:of|the|these|other|given|answer|choice|option)s?){0,4}\s+"
    rf"(?:but|except(?:\s+for)?|other\s+than)\s+{_SOME})"
)

_IS = r"(?:is|are|was|were|seems?|looks?|would|could|can|must|does|do)"
_WRONG = r"(?i:wrong|incorrect|false|ruled out|eliminated|excluded)\b"
_RIGHT = r"(?:(?:be\s+)?(?:the\s+|an?\s+)?(?:right|correct|true|supported|best|answer)\b|[.,;!]|$)"
_DENIED = re.compile(
    "|".join(
        (
            _KEPT,
            # "Unlike A, B is stated", but not "unlike A, B is wrong"
            rf"\b(?i:unlike|compared (?:to|with)|in contrast to|as opposed to|anything but)\s+{_SOME}"
            r"(?![^.;!?\n]*(?:\b(?:not?|never|lacks?|fails?|contradicts?|misses|wrong|incorrect|false|less|weak\w*|worse)\b"
            r"|n['\u2019]t))",
            # "neither A nor B", "it isn't A", "not A over B"
            rf"(?:\b(?i:not|cannot|neither|none of)|n['\u2019]t)\s+{_DO}{_SOME}(?:\s+{_OVER}\b)?",
            rf"\b{_OVER}\s+{_SOME}",  # "B over A"
            rf"\b(?i:rul(?:es?|ing) out|eliminat\w+|exclud\w+):?\s+{_SOME}{_LISTED}",  # "Eliminated: (A), (C)."
            rf"{_BEGIN}{_SOME}\s*{_IS}\s+(?:be\s+)?(?:\w+ly\s+|also\s+)?{_WRONG}",  # "A and B are clearly wrong"
            rf"{_BEGIN}{_SOME}\s*{_IS}{_NOT}(?=\s*{_RIGHT})",  # "A isn't right", "A is not."
            rf"(?:\u4e0d\u662f|\u4e0d\u9009)\s*{_ONE}",  # is not A, don't choose A
            rf"{_BEGIN}{_CAPITAL}(?:[\u3001\u548c\u4e0e]{_CAPITAL})*\u9879?[\u662f\u90fd]?"
            r"(?:\u4e0d\u5bf9|\u4e0d\u6b63\u786e|\u9519)",  # A and B are wrong
        )
    )
)
_BE = r"(?i:is|(?:must|will|has to|can only) be)\b"
_SURELY = r"(?:\s+(?:clearly|therefore|thus|likely|probably|definitely|obviously|certainly|indeed|letter)\b){0,2}"
_ANSWER = r"(?i:answer|choice|option|verdict|winner|better|best|correct\s+(?:one|statement|letter))\b"
_SAID = re.compile(
    rf"(?:(?<!each )\b{_ANSWER}\W{{0,3}}"
    rf"(?:[:=]|(?<=\s[-\u2013]\s)|\b{_BE}{_SURELY})\W{{0,6}}"
    r"|(?<![Nn]ot )\b(?i:ans|solution|conclusion|decision|final|pick|correct|selected)\b\W{0,3}[:=]\W{0,6}"
    # The answer is, in German, French, Spanish, Italian, Portuguese
    r"|\b(?i:antwort|l\u00f6sung|r\u00e9ponse|respuesta|risposta|resposta)\b(?:\s\w+)?\s?"
    r"(?::|\b(?i:ist|est|es|\u00e8|\u00e9)\b)(?:\s(?i:la|die))?\W{0,6}"
    r"|\b(?i:so|therefore|thus|hence),?\s+|boxed\{(?:\\\w+\{)?|\[\[|<(?i:answer)>\s*"
    r"|(?:\u7b54\u6848|\u6b63\u89e3)[\u662f\u4e3a]?\W{0,3}|\u9009[\u62e9\u9879]?\W{0,3})"  # the answer is, choose
    rf"({_SOME}{_LISTED}|{_LETTER}|[b-hj-z]{_END})"
)
# With reserve: it counts where nothing is said outright, and no "but", "if" or question mark follows.
_MEANT = re.compile(
    rf"(?:\b{_ANSWER}\W{{0,3}}\b(?i:(?:should|would|appears to|seems to) be)\b{_SURELY}\W{{0,6}}"
    r"|(?<![Ii]f )\b(?:I|[Ww]e|[Ll]et)(?:['\u2019]\w+)?(?:\s+(?:would|will|therefore|thus))*\s+"
    r"(?:choose|chose|pick|select|go\s+with)\s+)"
    rf"({_SOME}{_LISTED}|{_LETTER}|[b-hj-z]{_END})(?![^.!?\n]*(?:\?|{_RESERVE}))"
)
_IS_RIGHT = re.compile(rf"{_BEGIN}({_CAPITAL})\W{{0,3}}\bis\s+(?:the\s+)?(?:right|correct|best|answer)\b")
# Before a mark that stands behind no other letter, as it does in a list of all choices.
_FIRST = re.compile(
    rf"\W*(?:(?i:option|choice)\s+\W{{0,3}})?({_LETTER})\W{{0,3}}?"
    r"([).:\]\n]|\s(?:[-\u2013]\s|because\b|since\b))(?!.*\b[A-Za-z]\2)",
    re.DOTALL,
)
# The only one on a line of its own.
_LAST = re.compile(rf"\A(?:(?![^\w\n]*{_LETTER}[^\w\n]*\n).*\n)+\W*({_LETTER})\W*\Z")


def choices(said: str) -> set[str]:
    """Capitals of the choices that an answer gives; empty if it names none, or none that it does not deny."""
    left = without_denied(said)
    chosen = decided(left)
    return chosen if len(chosen) == 1 else _named(left)


def gives(said: str, letter: str) -> bool:
    """Whether an answer gives a choice; one in small letters other than "a" and "i" (a variable) is any word of it."""
    if letter.islower() and letter not in "ai" and re.search(rf"{_BEGIN}{letter}{_END}", said):
        return True
    return letter.upper() in choices(said)


def decided(said: str) -> set[str]:
    """Letters of the choices that a text says are the answer; if it says none, of the one at its beginning or end."""
    chosen = [*_SAID.findall(said), *_IS_RIGHT.findall(said)] or _MEANT.findall(said)
    if not chosen and (end := _FIRST.match(said) or _LAST.match(said)):
        chosen = [end[1]]
    return _named("\n".join(chosen))


def without_denied(said: str) -> str:
    """A text without the choices that it denies or sets below another, in ASCII letters."""
    return _DENIED.sub(_kept, normalize("NFKC", said))


def as_choice(answer: str) -> str | None:
    """The letter of an accepted answer that is one, whatever marks are around it ("A", "(b)"); else `None`."""
    letter = re.sub(r"[\W_]", "", answer)
    is_letter = len(letter) == 1 and letter.isascii() and letter.isalpha() and not re.search(r"[+#]", answer)
    return letter if is_letter else None


def _named(said: str) -> set[str]:
    return set(map(str.upper, _NAMED.findall(said)))


def _kept(found: re.Match[str]) -> str:
    """What is left of a denial, and a mark for the rest: the A of "A rather than B fits" is not that of "A fits"."""
    return f"{found[found.lastgroup] if found.lastgroup else ''}\u2026 "
