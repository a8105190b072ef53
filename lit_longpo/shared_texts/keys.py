"""Keys of what a text holds: two texts that share one are about one document, unless most texts have it."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import groupby, pairwise

from lit_longpo.shared_texts.shingles import chosen_shingles, window_for

# Characters of successive lines that two messages share only by being about one document, or by an instruction.
_SHARED = 100
_BROKEN, _NARROWEST, _WIDEST = 3, 40, 120  # lines of a paragraph that was broken at a width, and their characters
MESSAGE, CONTEXT, FACTS, AROUND_FACTS = 0, 2, 4, 6  # kinds of a part: of what it is one
KINDS = 8  # what is left of a part's key, divided by this, is its kind
_HEAD = 2000  # characters that two contexts begin with only by being one document, or by what all of them begin with


def text_key(text: str) -> int:
    """Key of a text that only records of one document hold, however it is spaced: an odd hash of 64 bits."""
    return text_hash(_spaced(text)) | 1


def head_keys(text: str) -> list[int]:
    """Key of a long text's beginning, which copies of it that were cut have in common: an even hash of 64 bits.

    Other parts have no keys, unlike those of `message_keys`: contexts are made of passages that many of them hold.
    """
    spaced = _spaced(text)
    return [_kept_as(MESSAGE, text_hash(spaced[:_HEAD]))] if len(spaced) >= _HEAD else []


def message_keys(texts: Sequence[str]) -> list[int]:
    """Keys of messages that hold a document somewhere beside the question: odd of all, even of every part.

    Parts are of two kinds:
    - A run of lines, from any of them up to where it has 100 characters: a long line, or several short ones.
    - A run of 100 characters in lines that are as long, wherever they break or hold the question too. About 64 of these
      are chosen, so that of two messages a common run of 200 characters is found, or, where they are long, of a
      sixteenth of the longer one.

    White space of any kind and length is one space; a paragraph that is broken at a width is one line, too.

    Args:
        texts: of all messages before the answer.
    """
    return [text_key("\0".join(texts)), *_part_keys(texts, MESSAGE)]


def document_keys(document: str, facts: str, messages: Sequence[str] = ()) -> list[int]:
    """Keys that only records about one document share (see `DocumentKeys`).

    A whole message has a key for each of its parts, since the document stands somewhere in it, or in another message. A
    context without known facts also has keys of its beginning, since it may be a document that others cut at another
    place.

    Args:
        document: the text that a record is about.
        facts: what of it the answer depends on; empty if nothing says.
        messages: all messages before the answer, where the question is in one of them.
    """
    of_facts = [text_key(f"facts\0{facts}")] if facts else []
    if messages:
        return [*message_keys(messages), *of_facts]
    return [text_key(document), *(of_facts or [text_key(f"facts\0{document}"), *head_keys(document)])]


@lru_cache(maxsize=16)  # questions about one context come one after the other
def context_keys(context: str, facts: str) -> tuple[int, ...]:
    """Keys of every part of a context apart from its question, and of what its answer depends on: even.

    Only for `about_documents_of`: by `labels` contexts would be joined that have a passage in common.

    Without facts nothing says which passages support the answer.
    """
    if not facts:
        return tuple(_part_keys([context], CONTEXT))
    return (*_part_keys([context], AROUND_FACTS), *_part_keys([facts], FACTS))


def _part_keys(texts: Sequence[str], kind: int) -> list[int]:
    paragraphs = [_paragraphs(text) for text in texts]
    broken = [[line for lines in of_text for line in lines] for of_text in paragraphs]
    whole = [[line for lines in of_text for line in _unbroken(lines)] for of_text in paragraphs]
    parts = {text_hash(part) for lines in (*broken, *whole) for part in _runs_of_lines(lines)}
    window = window_for(sum(map(len, texts)))
    parts.update(key for lines in whole for text in _stretches(lines) for key in chosen_shingles(text, _SHARED, window))
    return list({_kept_as(kind, key) for key in parts})


def _kept_as(kind: int, key: int) -> int:
    return key - key % KINDS + kind


def _paragraphs(text: str) -> list[list[str]]:
    """Lines of each, without those that are empty."""
    parts = re.split(r"\n\s*\n", re.sub(r"\r\n?", "\n", text))
    return [[line for line in map(_spaced, part.split("\n")) if line] for part in parts]


def _unbroken(lines: list[str]) -> list[str]:
    """A paragraph that was broken at a width as one line: no line had room for the next one's first word."""
    width = max(map(len, lines), default=0)
    room = (width - len(line) > len(following.split()[0]) for line, following in pairwise(lines))
    if len(lines) < _BROKEN or width > _WIDEST or min(map(len, lines[:-1])) < _NARROWEST or any(room):
        return lines
    return [" ".join(lines)]


def _stretches(lines: list[str]) -> list[str]:
    """Successive long lines as one text; a short one, which may be a question, stands between."""
    runs = groupby(lines, lambda line: len(line) >= _SHARED)
    return [" ".join(run) for is_long, run in runs if is_long]


def _spaced(text: str) -> str:
    return " ".join(text.split())


def _runs_of_lines(lines: Sequence[str]) -> Iterable[str]:
    stop, length = 0, 0
    for start, line in enumerate(lines):
        while length < _SHARED and stop < len(lines):
            length += len(lines[stop])
            stop += 1
        if length < _SHARED:
            return
        yield "\n".join(lines[start:stop])
        length -= len(line)


def text_hash(text: str) -> int:
    """64 bits, the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
