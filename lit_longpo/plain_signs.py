"""Signs as they are typed: what only looks otherwise in a text, or counts in another script, is one with it."""

import re
from unicodedata import normalize

_OTHER_DIGIT = re.compile(r"[^\D0-9]")
_RAISED = re.compile(r"(?<=\d)[\u207a\u207b]?[\u00b2\u00b3\u00b9\u2070\u2074-\u2079]+")  # behind a digit
_FRACTION = re.compile(r"(?<=\d)(?=[\u00bc-\u00be\u2150-\u215e\u2189])")
_SIGNS = str.maketrans("\u2044\u066b\u066c\u2212", "/.,-")  # of fractions, Arabic numbers and powers


def caseless(text: str) -> str:
    """The text as it is compared whatever its case: Straße is STRASSE, and İstanbul Istanbul.

    Of a capital i with its dot Unicode leaves the dot behind a small one, which has its own. Some letters come apart
    from their accents (ẖ), and are composed again.
    """
    return normalize("NFC", text.casefold().replace("i\u0307", "i"))


def plain_signs(text: str) -> str:
    """The text in NFKC (H₂O is H2O, ½ is 1/2, ﬁ is fi) and ASCII digits (٣ is 3).

    A power and a fraction stay apart from their number: 10² is 10^2 and not 102, 1½ is 1 1/2 and not 11/2.
    """
    apart = _FRACTION.sub(" ", _RAISED.sub(r"^\g<0>", text))
    typed = normalize("NFKC", apart).translate(_SIGNS)
    return _OTHER_DIGIT.sub(lambda digit: str(int(digit[0])), typed)
