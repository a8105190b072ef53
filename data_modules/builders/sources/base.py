"""What pairs are built from: a source of records, in a fixed order.

A new kind of source is one file: a dataclass whose fields are its settings, and `items`.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_modules.builders.sources.tokens import TextTokens
from data_modules.records import Passage, QARecord
from data_modules.splitting import documents_of
from lit_longpo.shared_texts import text_key


@dataclass(frozen=True)
class Document:
    """A text without questions.

    Args:
        id: where it comes from; unique in its source.
    """

    id: str
    text: str


@dataclass(frozen=True)
class Unreadable:
    """Input that is no document; it ends as failed in the report, it does not end the build.

    Args:
        id: where it lies.
        error: what was expected and what came.
    """

    id: str
    error: str


Item = QARecord | Document


class Source(ABC):
    """Records to build from, in a fixed order."""

    @abstractmethod
    def items(self, tokens: TextTokens) -> Iterator[Item | Unreadable]:
        """Every record; what cannot be read is said, not left out."""

    def pool(self) -> Sequence[Passage]:
        """Passages to draw distractors from."""
        return ()

    def content(self) -> str:
        """Hash of what is read, beyond the settings."""
        return ""


def content_hash(files: list[Path]) -> str:
    """Hash of the files' bytes in order (32 hex digits); names do not count."""
    digest = hashlib.sha256()
    for file in files:
        with open(file, "rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()[:32]


class Repeats:
    """What a build has come across: every id, and a key of every text; records that come twice are found by them."""

    def __init__(self) -> None:
        self._ids, self._texts = set[str](), set[int]()

    def used(self, id: str) -> bool:
        """Whether a record had this id; it is used from now on."""
        known = id in self._ids
        self._ids.add(id)
        return known

    def said(self, item: Item) -> str:
        """Which earlier record has the same text, whatever its spacing; empty if the text is new.

        Such a record would be asked and paid for, and its document trained, twice.
        """
        text, reason = _text(item)
        key = text_key(text)
        known = key in self._texts
        self._texts.add(key)
        return reason if known else ""


def _text(item: Item) -> tuple[str, str]:
    """All that makes a record one of its own, and what a second one is called."""
    if isinstance(item, Document):
        return item.text, "the same text as an earlier document's"
    said = (item.question, *item.answers, *documents_of(item))
    return "\0".join(said), "the same question about the same passages as an earlier one"
