"""Scores of how much a chunk has to do with a question."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_modules.qa_sets.matching import JOINED, STOPWORDS, normalise
from lit_longpo.errors import require_package


class ChunkScorer(ABC):
    """Counts what chunk and question share. LOGO counts named entities."""

    @abstractmethod
    def score(self, chunk: str, question: str) -> int:
        """Number of different things named in both; 0 means that the chunk is irrelevant."""


@dataclass
class WordOverlap(ChunkScorer):
    """Content words in both; names and numbers among them, no model needed.

    Words are compared without case and plural; stop words do not count. Where scripts join words (Chinese, Japanese,
    Korean, Thai), pairs of characters are.
    """

    def score(self, chunk: str, question: str) -> int:
        """Different content words in both."""
        return len(_content(chunk) & _content(question))


@dataclass
class SpacyEntities(ChunkScorer):
    """Named entities in both, found by spaCy (LOGO's scorer).

    Args:
        model: a spaCy pipeline with named entities: installed with `python -m spacy download`, or a folder.
    """

    model: str = "en_core_web_sm"

    def __post_init__(self) -> None:
        self._pipeline: Any = None

    def score(self, chunk: str, question: str) -> int:
        """Different entities in both, compared without case.

        Raises:
            MissingPackageError: spaCy or the pipeline is not installed.
        """
        return len(self._entities(chunk) & self._entities(question))

    def _entities(self, text: str) -> set[str]:
        if self._pipeline is None:
            self._pipeline = _load(self.model)
        return {normalise(entity.text) for entity in self._pipeline(text).ents} - {""}


def _load(model: str) -> Any:
    packages = {"spacy": 'pip install "lit_longpo[build]"'}
    if not Path(model).is_dir():
        packages[model] = f"python -m spacy download {model}"
    for package, command in packages.items():
        require_package(package, "SpacyEntities", f"type: {command}")
    import spacy

    return spacy.load(model)


def _content(text: str) -> set[str]:
    """Content words, plurals cut; of text without spaces, its pairs of characters."""
    words = set[str]()
    for word in normalise(text).split():
        if JOINED.search(word):
            words |= {word[start : start + 2] for start in range(max(1, len(word) - 1))}
        elif word not in STOPWORDS and (len(word) > 1 or word.isdigit()):
            words.add(word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word)
    return words
