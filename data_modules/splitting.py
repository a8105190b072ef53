"""How a validation split is held out: by documents, so that none is both trained on and validated on."""

import logging
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import singledispatch
from itertools import compress
from typing import TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from data_modules.records import PreferencePair, QARecord
from lit_longpo.errors import InputError
from lit_longpo.log_once import log_once
from lit_longpo.shared_texts import DocumentKeys, about_documents_of, context_keys, document_keys, text_key

log = logging.getLogger(__name__)

Item = TypeVar("Item")
_Parts = Mapping[tuple[str, str], DocumentKeys]  # by split and source
_Labels = Mapping[tuple[str, str], NDArray[np.int64]]
_NO_LABELS = np.empty(0, dtype=np.int64)


class Chosen(Sequence[Item]):
    """A view of some items of a sequence, without a copy.

    Args:
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
    """The part of items that "train" or "val" gets, if both are made of the same items; see `hold_out`.

    Raises:
        InputError: the fraction is not in [0, 1), or nothing would be kept.
    """
    train, val = hold_out(items, fraction, seed)
    if split == "train":
        _warn_of_share(len(val), len(items), fraction)
    return train if split == "train" else val


def _warn_of_share(held: int, total: int, fraction: float) -> None:
    """Warn if the documents held out are far more or fewer of the examples than was asked for."""
    wanted = fraction * total
    if abs(held - wanted) >= max(1.0, wanted / 2):
        log.warning(
            "`data.init_args.val_fraction: %s` holds out %d of %d examples (%.0f %%), as whole documents are held out; "
            "0 trains on all of them, `data.init_args.val_path` names others to validate on",
            *(fraction, held, total, 100 * held / total),
        )


def hold_out(items: Sequence[Item], fraction: float, seed: int) -> tuple[Sequence[Item], Sequence[Item]]:
    """(kept, held out), both in the given order; a positive fraction holds out at least one document.

    Items of one document (`keys_of`) stay together: the fraction is one of documents. Where every item has its own,
    it is one of items.

    Raises:
        InputError: the fraction is not in [0, 1), or nothing would be kept.
    """
    if not 0.0 <= fraction < 1.0:
        raise InputError(f"expected `data.init_args.val_fraction` in [0, 1), got {fraction}; 0.05 is usual")
    if not fraction:
        return items, items[:0]
    labels = _labels_to_part(items)
    documents = np.unique(labels)
    count = max(1, round(fraction * len(documents)))
    if count >= len(documents):
        raise InputError(
            f"expected examples to be left for training, got {len(items)} in all, with {count} of "
            f"{len(documents)} documents held out; lower `data.init_args.val_fraction`, or set it to 0 (or `val_path`)"
        )
    numbers = random.Random(seed).sample(range(len(documents)), count)
    held = np.isin(labels, documents[numbers])
    return part_of(items, np.flatnonzero(~held)), part_of(items, np.flatnonzero(held))


def first_of(items: Sequence[Item], first: int | None) -> Sequence[Item]:
    """The first contexts with all of their questions, until there are `first` questions; everything for `None`.

    A context is what a question's answer depends on: its supporting passages, or the whole long context.
    """
    if first is None:
        return items
    contexts, sizes = list[int](), dict[int, int]()  # of every item; items of each context
    for item in items:
        contexts.append(text_key(documents_of(item)[1]))
        sizes[contexts[-1]] = sizes.get(contexts[-1], 0) + 1
    kept, total = set[int](), 0
    for context, size in sizes.items():  # in order of first appearance
        if total >= first:
            break
        kept.add(context)
        total += size
    return part_of(items, np.array([n for n, context in enumerate(contexts) if context in kept], dtype=np.int64))


def _labels_to_part(items: Sequence[object]) -> NDArray[np.int64]:
    """Labels of the documents; of the items where all whole messages share one text and nothing tells them apart."""
    every = DocumentKeys.of(map(keys_of, items))
    specific = every.specific()
    labels = specific.labels()
    if len(items) < 2 or not _is_whole_message(items[0]):
        return labels
    alone, same = np.arange(len(items)), not labels.any()
    if same or (specific is not every and np.array_equal(labels, alone)):
        log_once(
            log.warning,
            "most of the %d examples share a long text and nothing else, so they are held out one by one, not by "
            "documents; set `val_path` if that text is a document",
            len(items),
        )
    return alone if same else labels


def keys_of(item: object) -> list[int]:
    """Keys that only items about the same document share (see `document_keys`)."""
    whole, facts = documents_of(item)
    if not isinstance(item, PreferencePair):
        return document_keys(whole, facts)
    said = [message.content for message in item.other_messages]
    messages = [] if item.question else [item.system or "", whole, *said]
    return document_keys(whole, facts if item.supporting else "", messages)


def compared_keys(item: object) -> list[int]:
    """`keys_of` an item, and further keys to compare it with sources and splits of other layouts."""
    if not isinstance(item, PreferencePair) or _is_whole_message(item):
        return keys_of(item)
    whole, facts = documents_of(item)
    return [*keys_of(item), *context_keys(whole, facts if item.supporting else "")]


def _is_whole_message(item: object) -> bool:
    return isinstance(item, PreferencePair) and not item.question


@singledispatch
def documents_of(item: object) -> tuple[str, str]:
    """(the text an item is about, the part of it that the answer depends on).

    Two items with either in common share a document. Items of unknown types share none.
    """
    return repr(item), repr(item)


@documents_of.register
def _(item: PreferencePair) -> tuple[str, str]:
    facts = "\n".join(item.long_context[start:end] for start, end in item.supporting)
    whole = item.long_context or item.short_context
    return whole, facts or whole


@documents_of.register
def _(item: QARecord) -> tuple[str, str]:
    """All passages, and those that the answer depends on; sorted, as all questions of an article hold all of its."""
    whole = "\n".join(sorted(passage.text for passage in item.passages))
    return whole, "\n".join(sorted(passage.text for passage in item.passages if passage.supporting)) or whole


def shared_documents(documents: Mapping[str, Mapping[str, DocumentKeys]]) -> dict[str, int]:
    """How many documents each split has, and how many are in the training split and another; those are warned of.

    Args:
        documents: keys of each split's examples (`compared_keys`), by source: an instruction is a text that most of
            one source hold.
    """
    parts = _specific_parts(documents)
    of_split, in_training = dict[str, list[NDArray[np.int64]]](), dict[str, list[NDArray[np.int64]]]()
    for (split, source), labels in _labels(parts).items():
        of_split.setdefault(split, []).append(labels)
        found = np.zeros(len(labels), dtype=np.bool_)
        if split != "train" and "train" in documents:
            for other in _sources(documents):
                trained = parts["train", other]
                found |= about_documents_of(trained, parts[split, source], contexts=other != source)
        in_training.setdefault(split, []).append(labels[found])
    unique = {split: np.unique(np.concatenate(found)) for split, found in of_split.items()}
    return _counted(unique, {split: np.concatenate(found) for split, found in in_training.items()})


def held_out_elsewhere(documents: Mapping[str, Mapping[str, DocumentKeys]]) -> dict[str, NDArray[np.int64]]:
    """Numbers of the training examples about a document that another source validates on, by source."""
    parts = _specific_parts(documents)
    labels = _labels(parts)
    sources = [source for split, source in parts if split == "train"]
    held = {source: _labels_held(source, parts, labels) for source in sources}

    def numbers(source: str) -> NDArray[np.int64]:
        others = [found for other, found in held.items() if other != source]
        return np.flatnonzero(np.isin(labels["train", source], np.concatenate(others or [_NO_LABELS])))

    return {source: numbers(source) for source in sources}


def _labels_held(source: str, parts: _Parts, labels: _Labels) -> NDArray[np.int64]:
    """Labels of the documents that a source validates on, with the labels they have in sources of another layout."""
    if ("val", source) not in parts:
        return _NO_LABELS
    others = [other for split, other in parts if split == "train" and other != source]
    held = parts["val", source]
    named = [labels["train", other][about_documents_of(held, parts["train", other])] for other in others]
    return np.concatenate([labels["val", source], *named])


def _specific_parts(documents: Mapping[str, Mapping[str, DocumentKeys]]) -> _Parts:
    """Keys of every split and source, without those of texts that are instructions in the source."""
    specific = dict[tuple[str, str], DocumentKeys]()
    for source in _sources(documents):
        keys = [of_split.get(source, DocumentKeys.of([])) for of_split in documents.values()]
        whole = DocumentKeys.joined(keys).specific()
        ends = np.cumsum([len(part) for part in keys])
        numbers = np.split(np.arange(len(whole)), ends[:-1])
        specific |= {(split, source): whole.chosen(part) for split, part in zip(documents, numbers, strict=True)}
    return specific


def _labels(parts: _Parts) -> _Labels:
    """Document of every example, by split and source."""
    if not parts:
        return {}
    labels = DocumentKeys.joined(list(parts.values())).without_contexts().labels()
    ends = np.cumsum([len(part) for part in parts.values()])
    return dict(zip(parts, np.split(labels, ends[:-1]), strict=True))


def _sources(documents: Mapping[str, Mapping[str, DocumentKeys]]) -> Iterable[str]:
    return dict.fromkeys(source for of_split in documents.values() for source in of_split)


def _counted(found: Mapping[str, NDArray[np.int64]], in_training: Mapping[str, NDArray[np.int64]]) -> dict[str, int]:
    counts = {split: len(labels) for split, labels in found.items()}
    if "train" not in found:
        return counts
    for split in found.keys() - {"train"}:
        counts[f"train and {split}"] = shared = len(
            np.union1d(np.intersect1d(found["train"], found[split]), in_training[split])
        )
        if shared:
            log.warning(
                f"{split}: {shared} of {counts[split]} documents are also in the training split, so its numbers "
                "are too good; remove them from one of the two"
            )
    return counts


def part_of(items: Sequence[Item], numbers: NDArray[np.int64]) -> Sequence[Item]:
    """The items with these ascending numbers: a list of a list, and a view of other sequences, which may be files."""
    return [items[number] for number in numbers.tolist()] if isinstance(items, list) else Chosen(items, numbers)
