"""Text files that people name: documents, hay, what perplexity is measured on; and which texts show nothing."""

import re
import unicodedata
from pathlib import Path

from lit_longpo.errors import InputError

# Files that hold texts among names, quotation marks and tags, which would be read as text.
_WRAPPED = {
    ".rtf": "RTF",
    ".xml": "XML",
    **dict.fromkeys((".jsonl", ".ndjson"), "JSON Lines"),
    **dict.fromkeys((".json", ".ipynb"), "JSON"),
    **dict.fromkeys((".csv", ".tsv"), "a table"),
    **dict.fromkeys((".html", ".htm", ".xhtml"), "HTML"),
}


# What nobody sees of Unicode's letters, marks and symbols: fillers, variation selectors, Braille without a dot.
_EMPTY = re.compile("[\u034f\u115f\u1160\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
# What shows of the signs that Unicode counts among those for layout: Arabic, Syriac and Kaithi signs around numbers.
_DRAWN = re.compile("[\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd]")


class NotTextError(InputError):
    """What came in place of UTF-8 text; whoever reads says where, and what to type."""


def read_plain(path: Path) -> str:
    """The text of a file.

    Raises:
        NotTextError: as `plain_text`; or the file's ending says that it wraps its texts in something else.
    """
    if kind := _WRAPPED.get(path.suffix.lower()):
        raise NotTextError(f"{kind}, not the texts in it")
    return plain_text(path.read_bytes())


def plain_text(raw: bytes) -> str:
    """The text without a byte-order mark, lines ended by newlines whoever wrote them.

    Raises:
        NotTextError: it is no UTF-8, or has zero bytes, as UTF-16 without a mark; it says what came.
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotTextError(f"byte {raw[error.start]:#04x} at {error.start}") from error
    if "\0" in text:
        raise NotTextError("a zero byte")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def is_blank(text: str) -> bool:
    """Whether a text shows nothing: white space, control characters, others that nobody sees (a byte-order mark)."""
    return all(char.isspace() or _is_unseen(char) for char in text)


def _is_unseen(char: str) -> bool:
    layout = unicodedata.category(char) in ("Cc", "Cf") and not _DRAWN.match(char)
    return layout or _EMPTY.match(char) is not None
