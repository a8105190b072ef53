"""Tokenised examples in little memory: arrays, in memory or mapped from files, instead of Python's integers.

An example is one run of 32-bit words. A table says where each run ends, and what is asked about an example without
reading it.
"""

import hashlib
import zlib
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from data_modules.rows.encoding import EncodedPair
from data_modules.rows.stores.strata import Share
from data_modules.rows.stores.words import Words, from_words, reference_length, to_words
from lit_longpo.batch import Group
from lit_longpo.errors import InputError
from lit_longpo.shared_texts import DocumentKeys

# One line of the table: where words and name end, tokens in a row, the pair's own numbers, where keys end, checksum.
TABLE = np.dtype(
    [
        ("end", "<i8"),
        ("name_end", "<i8"),
        ("length", "<i8"),
        ("weight", "<f8"),
        ("margin", "<f8"),
        ("key_end", "<i8"),
        ("crc", "<u4"),
    ]
)


Item = TypeVar("Item")


class Numbered(Sequence[Item], ABC):
    """A sequence whose items are made when they are asked for; slices of it are lists."""

    @abstractmethod
    def item(self, index: int) -> Item:
        """The item with this index; negative ones count from the end."""

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self.item(number) for number in range(*index.indices(len(self)))]
        return self.item(index)


class Examples(Numbered[EncodedPair]):
    """Tokenised examples by index, and what is asked about them without reading one."""

    names: Sequence[str]
    sources: Sequence[str] = ()  # of which there are examples, where there are several
    shares: Sequence[Share] | None = None  # how many of each source an epoch has; `None` for every example once

    def name_of(self, index: int) -> str:
        """What rows call an example, or a further copy of it, whose index lies beyond the last example."""
        copy, number = divmod(index, len(self))
        return self.names[number] + f" ({copy + 1})" * bool(copy)

    @property
    @abstractmethod
    def lengths(self) -> NDArray[np.int64]:
        """Tokens that each example occupies in a row. Shape: (examples,)."""

    @property
    @abstractmethod
    def reference_lengths(self) -> NDArray[np.int64]:
        """Tokens that each example occupies in a row of the reference. Shape: (examples,)."""

    @property
    @abstractmethod
    def documents(self) -> Mapping[str, DocumentKeys]:
        """Keys of what the examples are about, in their order, by source."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of every name, token, mask and position, in order (32 hex digits)."""


class TokenStore(Examples):
    """Examples in arrays; each is put together anew when it is asked for.

    Args:
        words: of all examples, one after the other. Shape: (words,).
        table: a line for each. Shape: (examples,), of `TABLE`.
        names: their identifiers in UTF-8, one after the other. Shape: (bytes,).
        keys: of what they are about, one after the other. Shape: (keys,).
        fingerprint: hash of every name, token, mask and position, in order (32 hex digits).
        origin: what an error calls the store.
    """

    def __init__(
        self,
        words: Words,
        table: NDArray[Any],
        names: NDArray[np.uint8],
        keys: NDArray[np.uint64],
        fingerprint: str,
        origin: str = "memory",
    ) -> None:
        self._words, self._table, self._keys, self._fingerprint = words, table, keys, fingerprint
        self.origin = origin
        self.names = Names(names, table["name_end"])

    @classmethod
    def of(cls, examples: Iterable[EncodedPair]) -> "TokenStore":
        """A store in memory; the examples are consumed one by one."""
        words, keys, table, names, digest = array("i"), array("Q"), bytearray(), bytearray(), Digest()
        for example in stored(examples, digest):
            words.frombytes(example.words.tobytes())
            table += example.line.tobytes()
            names += example.name
            keys.frombytes(example.keys.tobytes())
        return cls(
            np.frombuffer(words, np.int32),
            np.frombuffer(table, TABLE),
            np.frombuffer(names, np.uint8),
            np.frombuffer(keys, np.uint64),
            digest.value(),
        )

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens that each example occupies in a row. Shape: (examples,)."""
        return np.asarray(self._table["length"])

    @property
    def reference_lengths(self) -> NDArray[np.int64]:
        """Tokens that each example occupies in a row of the reference, as their layouts say. Shape: (examples,)."""
        runs = (self._words[run_of(number, self._table["end"])] for number in range(len(self)))
        return np.fromiter(map(reference_length, runs), np.int64, len(self))

    @property
    def documents(self) -> Mapping[str, DocumentKeys]:
        """Keys of what the examples are about."""
        return {"": DocumentKeys(self._keys, np.asarray(self._table["key_end"]))}

    def __len__(self) -> int:
        return len(self._table)

    def fingerprint(self) -> str:
        """Hash of every name, token, mask and position, in order (32 hex digits)."""
        return self._fingerprint

    def item(self, index: int) -> EncodedPair:
        """The example, put together from its words.

        Raises:
            InputError: its words on disk are not those that were written.
        """
        line = self._table[index]
        words = np.ascontiguousarray(self._words[run_of(index, self._table["end"])])
        if zlib.crc32(words.data) != line["crc"]:
            raise InputError(
                f"the tokens of record {self.names[index]!r} in {self.origin} are not those that were stored; delete "
                "that folder, and the next run tokenises again"
            )
        policy, reference = from_words(words, self.names[index])
        keys = tuple(self._keys[run_of(index, self._table["key_end"])].tolist())
        return EncodedPair(policy, reference, line["weight"].item(), line["margin"].item(), keys)


def run_of(index: int, ends: NDArray[np.int64]) -> slice:
    """Where an item lies among others that lie one after the other.

    Args:
        index: of the item; negative ones count from the end.
        ends: where each ends. Shape: (items,).
    """
    number = range(len(ends))[index]
    return slice(int(ends[number - 1]) if number else 0, int(ends[number]))


class Names(Numbered[str]):
    """Identifiers that lie one after the other in UTF-8.

    Args:
        text: all of them. Shape: (bytes,).
        ends: where each ends. Shape: (names,).
    """

    def __init__(self, text: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self._text, self._ends = text, ends

    def __len__(self) -> int:
        return len(self._ends)

    def item(self, index: int) -> str:
        """The identifier, decoded."""
        return bytes(self._text[run_of(index, self._ends)]).decode()


class Digest:
    """Hash of every name, token, mask and position of examples, in order."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, name: str, example: EncodedPair) -> None:
        """The next example."""
        self._digest.update(name.encode())
        if (example.weight, example.margin) != (1.0, 0.0):  # data without them have the hash that they always had
            self._digest.update(repr((example.weight, example.margin)).encode())
        for group in (*example.policy, *(() if example.same_row else example.reference)):
            self._add_group(group)

    def value(self) -> str:
        """The hash as 32 hex digits."""
        return self._digest.hexdigest()[:32]

    def _add_group(self, group: Group) -> None:
        arrays: list[NDArray[Any]] = [np.array(group.prompt_ids, dtype=np.int32)]
        if group.position_ids is not None:
            arrays.append(np.array(group.position_ids, dtype=np.int32))
        for response in group.responses:
            self._digest.update(repr(replace(response, token_ids=(), mask=())).encode())
            arrays += [np.array(response.token_ids, dtype=np.int32), np.array(response.mask, dtype=np.bool_)]
        rest = replace(group, prompt_ids=(), position_ids=None, responses=())
        self._digest.update(repr((rest, [len(array) for array in arrays])).encode())
        for numbers in arrays:
            self._digest.update(numbers.tobytes())


class Stored(NamedTuple):
    """What of an example goes into each array."""

    words: Words
    name: bytes
    line: NDArray[Any]
    keys: NDArray[np.uint64]


def stored(examples: Iterable[EncodedPair], digest: Digest) -> Iterator[Stored]:
    """The examples one by one as they are stored, counted into the digest."""
    end = name_end = key_end = 0
    for example in examples:
        name = example.policy[0].example
        digest.add(name, example)
        words, encoded = to_words(example), name.encode()
        end, name_end = end + len(words), name_end + len(encoded)
        keys = np.array(example.documents, dtype=np.uint64)
        key_end += len(keys)
        numbers = (example.num_tokens, example.weight, example.margin, key_end)
        line = np.array([(end, name_end, *numbers, zlib.crc32(words.data))], dtype=TABLE)
        yield Stored(words, encoded, line, keys)
