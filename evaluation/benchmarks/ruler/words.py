"""Words that RULER's tasks draw from."""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.util import find_spec
from itertools import accumulate, product
from pathlib import Path
from typing import overload

from evaluation.benchmarks.official_files import OfficialFileError, read_json, read_text
from evaluation.benchmarks.ruler.templates import LAYOUT, digest_of

_WORD_LISTS = {"adjectives": "adjectivelist.txt", "nouns": "nounlist.txt", "verbs": "verblist.txt"}
_OFFICIAL_WORDS = (6_171_620, 8_166)  # pairs and different words of wonderwords 3.0.1
MADE_UP = "made up"
_SYLLABLES = tuple(first + second for first in "bdfgklmnprstvz" for second in "aeiou")


class Pairs(Sequence[str]):
    """All "adjective-noun" in order, without most of them in memory: there are millions."""

    def __init__(self, adjectives: Sequence[str], nouns: Sequence[str]) -> None:
        self._nouns = sorted(set(nouns))
        # Pairs of one adjective are in the order of the nouns, but "wide-eyed-cat" stands among those of "wide".
        groups = list[list[str]]()
        for word in sorted(set(adjectives), key=lambda word: f"{word}-"):
            if groups and word.startswith(f"{groups[-1][0]}-"):
                groups[-1].append(word)
            else:
                groups.append([word])
        self._groups = groups
        self._ends = list(accumulate(len(group) * len(self._nouns) for group in groups))
        self._mixed = cache(self._sorted_pairs)

    def __len__(self) -> int:
        return self._ends[-1]

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        """One pair, or several."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        group = bisect_right(self._ends, number)
        place = number - (self._ends[group - 1] if group else 0)
        if len(self._groups[group]) > 1:
            return self._mixed(group)[place]
        return f"{self._groups[group][0]}-{self._nouns[place]}"

    def _sorted_pairs(self, group: int) -> list[str]:
        return sorted(f"{word}-{noun}" for word in self._groups[group] for noun in self._nouns)


@dataclass(frozen=True)
class Words:
    """Word lists.

    Args:
        adjectives: of keys and of the list of common words.
        nouns: likewise.
        verbs: of the list of common words.
        larger: file of English words, for a list of common words that needs more; `None` if there is none.
        source: where they are from.
    """

    adjectives: tuple[str, ...]
    nouns: tuple[str, ...]
    verbs: tuple[str, ...]
    larger: Path | None
    source: str

    @cached_property
    def pairs(self) -> Pairs:
        """What keys are drawn from."""
        return Pairs(self.adjectives, self.nouns)

    @cached_property
    def every(self) -> list[str]:
        """All different ones, in order."""
        return sorted({*self.nouns, *self.adjectives, *self.verbs})

    @property
    def deviations(self) -> tuple[str, ...]:
        """That they are not those of wonderwords 3.0.1, or nothing."""
        is_official = (len(self.pairs), len(self.every)) == _OFFICIAL_WORDS
        return () if is_official else (f"words: {self.source}, in place of wonderwords 3.0.1",)

    @property
    def digest(self) -> str:
        """Hash of all lists."""
        larger = self.larger.read_bytes() if self.larger else b""
        return digest_of(f"{self.adjectives} {self.nouns} {self.verbs} {hashlib.sha256(larger).hexdigest()}")

    @cached_property
    def english(self) -> list[str]:
        """The larger list, or these if there is none.

        Raises:
            OfficialFileError: the file holds no words.
        """
        if self.source == MADE_UP:
            return ["".join(parts) for parts in product(_SYLLABLES, repeat=3)]
        if self.larger is None:
            return self.every
        values = read_json(self.larger, LAYOUT)
        words = list(values.values()) if isinstance(values, dict) else values
        if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
            raise OfficialFileError.at(str(self.larger), "file", "words", values)
        return sorted(set(words))

    @property
    def num_known(self) -> int:
        """Words of the longest list that can be made."""
        return max(len(self.every), len(self.english))


def read_words(folder: Path | None, larger: Path | None) -> Words:
    """Word lists of a folder as wonderwords' `assets`, else of wonderwords if it is installed, else made-up ones.

    Raises:
        MissingFileError: the folder lacks a list.
    """
    spec = None if folder else find_spec("wonderwords")
    if spec is not None and spec.origin:
        folder = Path(spec.origin).parent / "assets"
    if folder is None:
        return _made_up_words()
    lists = {name: tuple(_lines(folder / file)) for name, file in _WORD_LISTS.items()}
    return Words(**lists, larger=larger, source="wonderwords" if spec else folder.name)


def _lines(path: Path) -> list[str]:
    return [line.rstrip() for line in read_text(path, ", ".join(_WORD_LISTS.values())).splitlines() if line.strip()]


def _made_up_words() -> Words:
    """As many as the official lists have, of syllables."""
    two = tuple("".join(parts) for parts in product(_SYLLABLES, repeat=2))
    return Words(
        tuple(f"{word}n" for word in two[::5]), (*two, *(f"{word}s" for word in two[::3])), two[:1], None, MADE_UP
    )
