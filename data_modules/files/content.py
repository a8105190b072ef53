"""What pairs are made from, as a hash: known without reading a record, so that a later run starts at once."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_modules.files.record_files import hub_table, is_local
from data_modules.records import PreferencePair

_IN_MEMORY_BYTES = 100_000_000  # of data files; of larger ones neither pairs nor tokens are held


@dataclass(frozen=True)
class Content:
    """Where pairs come from.

    Args:
        identity: hash of everything that they depend on.
        num_bytes: size of the files that they are read from.
    """

    identity: str
    num_bytes: int

    @property
    def is_large(self) -> bool:
        """Whether the pairs are streamed, and their tokens kept on disk."""
        return self.num_bytes > _IN_MEMORY_BYTES


def content_of_pairs(pairs: Iterable[PreferencePair]) -> str:
    """Hash of pairs that are made, and not read (32 hex digits)."""
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(repr(pair).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:32]


def content_of_files(path: Path, settings: Any) -> Content:
    """Of a file, or every file of a folder, and the settings that it is read with.

    A file is known by its place, size and times, those of the last change to its contents and its entry: hashing
    what it holds would take minutes where a start takes seconds. A copy is another file.

    Args:
        path: what is read.
        settings: what it is read with; anything whose `repr` says all.
    """
    files = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
    states = [(str(file.resolve()), file.stat()) for file in files]
    lines = [(name, state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino) for name, state in states]
    digest = hashlib.sha256(json.dumps([lines, repr(settings)]).encode())
    return Content(digest.hexdigest()[:32], sum(state.st_size for _, state in states))


def content_of_source(source: str, split: str, argument: str, settings: Any) -> Content | None:
    """Of files, a folder or a data set by name, as `read_records` takes them; `None` if nothing is there.

    Args:
        source: what is read.
        split: which split of a data set.
        argument: name of the setting, for errors.
        settings: what it is read with; anything whose `repr` says all.
    """
    if is_local(source):
        return content_of_files(Path(source), (split, settings)) if Path(source).exists() else None
    table = hub_table(source, split, argument)
    digest = hashlib.sha256(repr((table._fingerprint, settings)).encode())
    return Content(digest.hexdigest()[:32], table.data.nbytes)
