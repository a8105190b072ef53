"""How a validation split is held out: by documents, so that none is both trained on and validated on."""

import hashlib
import logging
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import singledispatch
from itertools import compress
from typing import TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from data_modules.records import PreferencePair, QARecord
from lit_longpo.errors import InputError

log = logging.getLogger(__name__)

Item = TypeVar("Item")

# Characters of a paragraph that two whole messages share only by being about one document; instructions are shorter.
_OF_A_DOCUMENT = 400


class Chosen(Sequence[Item]):
    """Some items of a sequence that is not copied.

    Args:
        items: the whole sequence.
        numbers: which of them, ascending.
    """

    def __init__(self, items: Sequence[Item], numbers: NDArray[np.int64]) -> None:
        self.items, self.numbers = items, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[Item]:
        """In one pass over the whole sequence, which may be a file."""
        chosen = np.zeros(len(self.items), dtype=np.bool_)
        chosen[self.numbers] = True
        return compress(self.items, chosen)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> "Chosen[Item]": ...
    def __getitem__(self, index: int | slice) -> "Item | Chosen[Item]":
        if isinstance(index, slice):
            return Chosen(self.items, self.numbers[index])
        return self.items[int(self.numbers[index])]


def share_of(split: str, items: Sequence[Item], fraction: float, seed: int) -> Sequence[Item]:
    """What "train" or "val" gets of items that both are made of; see `hold_out`.

    Raises:
        InputError: the fraction is not in [0, 1), or nothing would be kept.
    """
    train, val = hold_out(items, fraction, seed)
    return train if split == "train" else val


def hold_out(items: Sequence[Item], fraction: float, seed: int) -> tuple[Sequence[Item], Sequence[Item]]:
    """(kept, held out), both in the given order; a positive fraction holds out at least one document.

    Items of one document (`documents_of`) stay together: the fraction is one of documents. Where every item has
    its own, it is one of items.

    Raises:
        InputError: the fraction is not in [0, 1), or nothing would be kept.
    """
    if not 0.0 <= fraction < 1.0:
        raise InputError(f"expected `data.init_args.val_fraction` in [0, 1), got {fraction}; 0.05 is usual")
    if not fraction:
        return items, items[:0]
    labels = document_labels(items)
    if len(items) > 1 and not labels.any() and _is_whole_message(items[0]):  # all share a text, such as instructions
        log.warning("all %d examples share a long text, so they are held out one by one, not by documents", len(items))
        labels = np.arange(len(items))
    documents = np.unique(labels)
    count = max(1, round(fraction * len(documents)))
    if count >= len(documents):
        raise InputError(
            f"expected examples left for training, got {len(items)} in all, about {len(documents)} documents, and "
            f"{count} of these held out; lower `data.init_args.val_fraction`, or set it to 0 (or `val_path`)"
        )
    numbers = random.Random(seed).sample(range(len(documents)), count)
    held = np.isin(labels, documents[numbers])
    return part_of(items, np.flatnonzero(~held)), part_of(items, np.flatnonzero(held))


def document_labels(items: Iterable[object]) -> NDArray[np.int64]:
    """For each item the number of the first one that is, directly or by way of others, of the same document.

    Shape: (items,).
    """
    hashes = (_hash(text) for item in items for text in documents_of(item))
    keys = np.fromiter(hashes, dtype=np.uint64).reshape(-1, 2)
    columns = [np.unique(column, return_inverse=True)[1] for column in keys.T]
    labels = np.arange(len(keys))
    while True:  # a label wanders along shared documents; with none shared twice, one pass and a look
        before = labels
        for members in columns:
            lowest = np.full(len(keys), len(keys))
            np.minimum.at(lowest, members, labels)
            labels = lowest[members]
        if np.array_equal(before, labels):
            return labels


def _is_whole_message(item: object) -> bool:
    return isinstance(item, PreferencePair) and not item.question


@singledispatch
def documents_of(item: object) -> tuple[str, str]:
    """What an item is about, and what of it its answer depends on: two items that agree in either share a document.

    An item of an unknown kind shares none with another.
    """
    return repr(item), repr(item)


@documents_of.register
def _(item: PreferencePair) -> tuple[str, str]:
    facts = "\n".join(item.long_context[start:end] for start, end in item.supporting)
    whole = item.long_context or item.short_context
    if not item.question:  # a whole message: the document is in it beside the question, or in another message
        whole = _document_within(item) or whole
    return whole, facts or whole


def _document_within(item: PreferencePair) -> str | None:
    """The longest line or paragraph of the first message that has one as only documents have; the system's last."""
    others = [message.content for message in (*item.history, *item.followup)]
    for text in (item.long_context or item.short_context, *others, item.system or ""):
        for parts in (text.splitlines(), re.split(r"\n\s*\n", text)):
            longest = max((part.strip() for part in parts), key=len, default="")
            if len(longest) >= _OF_A_DOCUMENT:
                return longest
    return None


@documents_of.register
def _(item: QARecord) -> tuple[str, str]:
    """All questions of an article hold its paragraphs, whichever they ask about."""
    whole = "\n".join(sorted(passage.text for passage in item.passages))
    return whole, "\n".join(sorted(passage.text for passage in item.passages if passage.supporting)) or whole


def shared_documents(documents: Mapping[str, NDArray[np.uint64]]) -> dict[str, int]:
    """How many documents each split has, and how many are in the training split and another; those are warned of.

    Args:
        documents: of each split's examples, `document_of`. Shape of each: (examples,).
    """
    counts = {split: len(np.unique(hashes)) for split, hashes in documents.items()}
    if "train" in documents:
        for split in documents.keys() - {"train"}:
            counts[f"train and {split}"] = shared = len(np.intersect1d(documents["train"], documents[split]))
            if shared:
                log.warning(
                    f"{split}: {shared} of {counts[split]} documents are in the training split too, so its numbers "
                    "flatter; take them out of one of the two"
                )
    return counts


def document_of(item: object) -> int:
    """Hash of all that an item is about, 64 bits."""
    return _hash(documents_of(item)[0])


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def part_of(items: Sequence[Item], numbers: NDArray[np.int64]) -> Sequence[Item]:
    """The items with these numbers, which ascend: of a list in a list, of anything else a view of what may not fit."""
    return [items[number] for number in numbers.tolist()] if isinstance(items, list) else Chosen(items, numbers)
