"""Haystacks: facts laid into plain prose, or whatever follows the protocol, at a depth counted in tokens."""

import hashlib
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from textwrap import wrap
from typing import Protocol, runtime_checkable

from lit_longpo.errors import InputError, MissingFileError
from lit_longpo.files.plain_text import NotTextError, read_plain

CountTokens = Callable[[str], int]

_LONGEST, _PIECE = 2000, 100  # characters of a sentence that is laid whole (novels have some of 1,500), and of a piece
_LONGEST_CHINESE = 400  # of one that is not looked through for Chinese full stops
_CHINESE_END = re.compile("(?<=[\u3002\uff01\uff1f])")  # of a sentence, with no space behind it
_NAMES = ("Alba", "Bruno", "Clara", "Dario", "Elena", "Felix", "Greta", "Hugo", "Irma", "Jonas", "Karin", "Leo")
# Filler of our own.
_SUBJECTS = ("The old bridge", "A small garden", "The night train", "Our library", "The harbour", "A quiet street")
_VERBS = ("was painted", "stayed open", "changed very little", "could be heard", "seemed larger", "was repaired")
_TIMES = (
    *("last spring", "after the storm", "during the long summer"),
    *("before the market began", "one cold morning"),
)


@runtime_checkable
class Haystack(Protocol):
    """Where needles and hay come from."""

    def needle(
        self, length: int, depth: float, index: int, num_tokens: CountTokens
    ) -> tuple[str, str, tuple[str, ...]]:
        """Context of about `length` tokens with the needle at `depth`, question, accepted answers.

        Question and answers must not depend on `num_tokens`: they are needed before there is a tokenizer.
        """


@dataclass
class TextHaystack:
    """A secret code in plain prose, for models that read English.

    Args:
        path: text file that serves as hay; `None` means simple made-up sentences.
        seed: of names, codes and hay.
    """

    path: str | None = None
    seed: int = 0

    def needle(
        self, length: int, depth: float, index: int, num_tokens: CountTokens
    ) -> tuple[str, str, tuple[str, ...]]:
        """Context of `length` tokens with the needle at `depth`, question, accepted answers.

        Args:
            length: tokens of the context; less than a sentence may be missing.
            depth: 0 is the start of the context, 1 its end.
            index: number of the example.
            num_tokens: counts a text's tokens.

        Raises:
            MissingFileError: `path` is not there.
        """
        draw = random.Random(f"{self.seed}-{length}-{depth}-{index}")
        name, code = draw.choice(_NAMES), str(draw.randrange(1000, 10000))
        fact = f"The secret code of {name} is {code}."
        context = lay(sentences(draw, self.path), [(depth, fact)], length, num_tokens)
        return context, f"What is the secret code of {name}?", (code,)


def sentences(draw: random.Random, path: str | None = None) -> Iterator[str]:
    """Hay without end.

    Args:
        draw: chooses sentences, or where a file is begun.
        path: text file whose sentences are taken in order, again and again; `None` means made-up ones. Sentences of
            more than 2,000 characters (lists, code) are taken in pieces, and from 400 on by Chinese full stops.

    Raises:
        MissingFileError: `path` is not there.
        InputError: the file has no text.
    """
    if path is None:
        while True:
            yield f"{draw.choice(_SUBJECTS)} {draw.choice(_VERBS)} {draw.choice(_TIMES)}."
    book = _book(path)
    start = draw.randrange(len(book))
    while True:
        yield from book[start:]
        start = 0


def text_digest(path: str) -> str:
    """Hash of the sentences that a file gives as hay (16 hex digits).

    Raises:
        MissingFileError, InputError: as `sentences`.
    """
    return hashlib.sha256("\n".join(_book(path)).encode()).hexdigest()[:16]


@cache
def _book(path: str) -> tuple[str, ...]:
    file = Path(path).expanduser()
    if not file.is_file():
        raise MissingFileError(f"expected a text file as hay at {path!r}, found none; name another, or leave it out")
    try:
        text = " ".join(read_plain(file).split())
    except NotTextError as error:
        raise InputError(f"expected text in UTF-8 as hay in {path}, got {error}; name another file") from error
    whole = [f"{part.rstrip('.')}." for part in text.split(". ") if part.strip(". ")]
    parts = tuple(piece for part in whole for piece in _pieces(part))
    if not parts:
        raise InputError(f"expected sentences in {path}, got none; name a file with text, or leave `path` out")
    return parts


def _pieces(sentence: str) -> list[str]:
    """The sentence, or its pieces where it is so long that a context would have room for nothing but the facts."""
    parts = [sentence] if len(sentence) <= _LONGEST_CHINESE else [part for part in _CHINESE_END.split(sentence) if part]
    cut = (wrap(part, _PIECE, break_on_hyphens=False) if len(part) > _LONGEST else [part] for part in parts)
    return list(chain.from_iterable(cut))


def lay(hay: Iterator[str], facts: Sequence[tuple[float, str]], length: int, num_tokens: CountTokens) -> str:
    """Facts among hay; sizes are tokens of the whole text, so nothing adds up over its sentences.

    The first token of a fact lies at its depth times `length`, at most one sentence before; facts that
    would run into each other or over the end begin earlier, so the text never exceeds `length`.

    Args:
        hay: sentences, more than enough.
        facts: depth (0 is the start, 1 the end) and sentence of each; equal depths keep their order.
        length: tokens of the text; less than a sentence may be missing.
        num_tokens: counts a text's tokens.

    Raises:
        InputError: several facts take more than `length` tokens; a single one may.
    """
    ordered = sorted(facts, key=lambda fact: fact[0])
    # Places are dealt from the end: `room` is where the fact behind begins, which this one must not run into.
    room = length
    places = []
    for depth, text in reversed(ordered):
        room = min(round(depth * length), room - num_tokens(" " + text))
        places.append(room)
    if len(facts) > 1 and sum(num_tokens(" " + text) for _, text in facts) > length:
        raise InputError(f"expected a length that holds {len(facts)} facts, got {length} tokens; ask for more")
    # From the start now, hay up to each place: it falls short of it by less than a sentence and never runs over.
    layout = _Layout(hay, num_tokens)
    for place, (_, text) in zip(reversed(places), ordered, strict=True):
        layout.grow(place)
        layout.add(text)
    layout.count()  # facts were added by their own sizes; what they save together is room for hay at the end
    layout.grow(length)
    return layout.text


class _Layout:
    """A text that grows by sentences, and its size."""

    def __init__(self, hay: Iterator[str], num_tokens: CountTokens) -> None:
        self._hay, self._next = hay, next(hay)
        self._sentences: list[str] = []
        self._size = 0
        self._num_tokens = num_tokens
        self._alone = cache(lambda sentence: max(1, num_tokens(" " + sentence)))

    @property
    def text(self) -> str:
        return " ".join(self._sentences)

    def add(self, sentence: str) -> None:
        """Append a sentence; its size is taken to be what it is alone."""
        self._sentences.append(sentence)
        self._size += self._alone(sentence)

    def count(self) -> bool:
        """Count the whole text; whether the sum over sentences was wrong."""
        summed, self._size = self._size, self._num_tokens(self.text)
        return self._size != summed

    def grow(self, size: int) -> None:
        """Append hay until the next sentence would exceed `size` tokens.

        Many tokenizers need fewer tokens for sentences together than apart; counting the whole shows the
        room that is left.
        """
        while self._append(size) and self.count():
            pass

    def _append(self, size: int) -> bool:
        """Append what fits by the sentences' own sizes; whether anything did."""
        before = len(self._sentences)
        while self._size + self._alone(self._next) <= size:
            self.add(self._next)
            self._next = next(self._hay)
        return len(self._sentences) > before
