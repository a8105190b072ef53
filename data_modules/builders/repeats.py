"""Finds records that come twice: with a used id, or with the same text under another id."""

from data_modules.builders.sources.base import Document, Item, Unreadable
from data_modules.splitting import documents_of
from lit_longpo.shared_texts import text_key


class Repeats:
    """What a build has come across: every id, and a key of every text."""

    def __init__(self) -> None:
        self._ids, self._texts = set[str](), set[int]()

    def used(self, id: str) -> bool:
        """Whether a record had this id; it is used from now on."""
        known = id in self._ids
        self._ids.add(id)
        return known

    def said(self, item: Item | Unreadable) -> str:
        """Which earlier record has the same text, whatever its spacing; empty if the text is new.

        Such a record would be asked and paid for, and its document trained, twice.
        """
        if isinstance(item, Unreadable):
            return ""
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
