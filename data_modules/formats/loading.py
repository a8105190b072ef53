"""Pairs of a source, in a list or streamed, and those that a label lets pass."""

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Literal, overload

import numpy as np

from data_modules.files.record_files import read_records
from data_modules.formats.reader import RecordReader
from data_modules.records import PreferencePair
from data_modules.splitting import part_of
from lit_longpo.errors import InputError

log = logging.getLogger(__name__)

Keep = Literal["all", "not_worse", "verified"]


class StreamedPairs(Sequence[PreferencePair]):
    """Pairs that are read anew whenever they are gone through, because they may not fit into memory.

    Args:
        read: begins at the first pair.
    """

    def __init__(self, read: Callable[[], Iterator[PreferencePair]]) -> None:
        self._read = read
        self._count: int | None = None

    def __len__(self) -> int:
        if self._count is None:
            self._count = sum(1 for _ in self._read())
        return self._count

    def __iter__(self) -> Iterator[PreferencePair]:
        number = 0
        for number, pair in enumerate(self._read(), 1):  # noqa: B007
            yield pair
        self._count = number  # known after a whole pass

    @overload
    def __getitem__(self, index: int) -> PreferencePair: ...
    @overload
    def __getitem__(self, index: slice) -> list[PreferencePair]: ...
    def __getitem__(self, index: int | slice) -> PreferencePair | list[PreferencePair]:
        if isinstance(index, slice):
            return [] if range(len(self))[index] == range(0) else list(self)[index]
        number = range(len(self))[index]
        return next(islice(self._read(), number, None))


def load_pairs(source: str, split: str, argument: str, reader: RecordReader | None = None) -> list[PreferencePair]:
    """Validated pairs from files, a folder or a data set.

    Args:
        source: as `read_records` takes it.
        split: which split of the data set; files have none.
        argument: name of the setting, for errors.
        reader: what the records look like; `None` looks at the first one.

    Raises:
        MissingFileError: there is no such file or data set.
        RecordError: a record is malformed.
    """
    return list((reader or RecordReader()).pairs(read_records(source, split, argument), source))


def stream_pairs(source: str, split: str, argument: str, reader: RecordReader) -> StreamedPairs:
    """What `load_pairs` would read, one by one; a malformed record is found when it is reached."""
    return StreamedPairs(lambda: reader.pairs(read_records(source, split, argument), source))


def keep_verified(pairs: Sequence[PreferencePair], keep: Keep, argument: str) -> Sequence[PreferencePair]:
    """Pairs that the verifiers' label lets pass; how many it does not is logged.

    Args:
        pairs: with or without labels.
        keep: "all"; "not_worse", without those whose rejected answer was found better; "verified", only
            those whose chosen answer was.
        argument: name of the setting, for the error.

    Raises:
        InputError: nothing is left.
    """
    if keep == "all":
        return pairs
    allowed = {"not_worse": (True, None), "verified": (True,)}[keep]
    passing = np.flatnonzero(np.fromiter((pair.verified in allowed for pair in pairs), dtype=np.bool_))
    if len(pairs) and not len(passing):
        raise InputError(
            f"expected pairs that pass `{argument}: {keep}`, got none of {len(pairs)}; set it to `all`, or label the "
            "pairs with `verifiers` when they are built"
        )
    if len(passing) < len(pairs):
        log.warning("%d of %d pairs left out by `%s: %s`", len(pairs) - len(passing), len(pairs), argument, keep)
    return part_of(pairs, passing)
