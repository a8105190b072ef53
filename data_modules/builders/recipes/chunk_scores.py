"""Scores of how much a chunk has to do with a question."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_modules.qa_sets.matching import JOINED, STOPWORDS, normalise
from lit_longpo.errors import InputError, error_text, require_package


class ChunkScorer(ABC):
    """Counts what chunk and question share. LOGO counts named entities."""

    def open(self) -> None:  # noqa: B027  (most load nothing)
        """Load what it scores with; called before anybody is asked for an answer."""

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

    def open(self) -> None:
        """Load the pipeline, if that is not done yet.

        Raises:
            MissingPackageError: spaCy or the pipeline is not installed.
            InputError: the folder holds no pipeline.
        """
        if self._pipeline is None:
            self._pipeline = _load(self.model)

    def score(self, chunk: str, question: str) -> int:
        """Different entities in both, compared without case; raises as `open` does."""
        return len(self._entities(chunk) & self._entities(question))

    def _entities(self, text: str) -> set[str]:
        self.open()
        return {normalise(entity.text) for entity in self._pipeline(text).ents} - {""}


def _load(model: str) -> Any:
    packages = {"spacy": 'pip install "lit_longpo[build]"'}
    if not Path(model).is_dir():
        packages[model] = f"python -m spacy download {model}"
    for package, command in packages.items():
        require_package(package, "SpacyEntities", f"type: {command}")
    import spacy

    try:
        return spacy.load(model)
    except (OSError, ValueError, ImportError) as error:
        raise InputError(
            f"expected a spaCy pipeline, got {model!r}, which does not load ({error_text(error)}); set "
            "`recipe.init_args.scorer.init_args.model`"
        ) from error


def _content(text: str) -> set[str]:
    """Content words, plurals cut; of text without spaces, its pairs of characters."""
    words = set[str]()
    for word in normalise(text).split():
        if JOINED.search(word):
            words |= {word[start : start + 2] for start in range(max(1, len(word) - 1))}
        elif word not in STOPWORDS and (len(word) > 1 or word.isdigit()):
            words.add(word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word)
    return words
