"""An id for every record, used once: rows tell examples apart by it."""

from array import array

import numpy as np

from lit_longpo.files.strict_json import RecordError
from lit_longpo.shared_texts.keys import text_hash

_IDS_IN_FULL = 100_000  # ids of which memory holds where they stand


class SeenIds:
    """Refuses an id that comes twice: at once among the first ones, at the end among more than memory should hold."""

    def __init__(self) -> None:
        self._first = dict[str, str]()
        self._hashes = array("Q")

    def add(self, name: str, where: str) -> None:
        """The next record's id.

        Raises:
            RecordError: one of the first records has it.
        """
        if name in self._first:
            raise RecordError.at(where, "field 'id'", f"an id not used before (see {self._first[name]})", name)
        if len(self._first) < _IDS_IN_FULL:
            self._first[name] = where
        else:
            self._hashes.append(text_hash(name))

    def check(self, source: str) -> None:
        """After the last record.

        Raises:
            RecordError: two of the later records have one id.
        """
        hashes = np.frombuffer(self._hashes, np.uint64)
        order = np.argsort(hashes, kind="stable")
        twice = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
        if len(twice):
            first, second = (int(number) + len(self._first) + 1 for number in order[twice[0] : twice[0] + 2])
            raise RecordError.at(source, f"records {first} and {second}", "ids that are used once", "the same one")


class RepeatedIds:
    """Makes ids of other projects unique, which name a prompt as often as a record: a repeated one gets its place."""

    def __init__(self) -> None:
        self._hashes = set[int]()

    def name(self, id: str, place: str) -> str:
        """The id, with the record's place behind it if an earlier record has it."""
        known = text_hash(id) in self._hashes
        self._hashes.add(text_hash(id))
        return f"{id} ({place})" if known else id
