"""What pairs are made from, as a hash: known without reading a record, so that a later run starts at once."""

import hashlib
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from data_modules.files.data_sets import hub_table
from data_modules.files.record_files import is_local
from data_modules.records import PreferencePair
from lit_longpo.errors import MissingFileError

_IN_MEMORY_BYTES = 100_000_000  # of texts; of more neither pairs nor tokens are held
_SOON_TOKENISED_BYTES = 2_000_000  # of texts; tokens of more are kept for the next start


@dataclass(frozen=True)
class Content:
    """Where pairs come from.

    Args:
        identity: hash of everything that they depend on.
        num_bytes: size of the files that they are read from, or about that of their texts.
    """

    identity: str
    num_bytes: int

    @property
    def is_large(self) -> bool:
        """Whether the pairs are streamed, and their tokens mapped from disk."""
        return self.num_bytes > _IN_MEMORY_BYTES

    @property
    def is_kept(self) -> bool:
        """Whether their tokens are kept on disk for later runs."""
        return self.num_bytes > _SOON_TOKENISED_BYTES


def content_of_code(modules: Iterable[ModuleType], settings: Any, num_bytes: int) -> Content:
    """Identity of pairs that are made by code: the code, and the settings it is called with.

    Args:
        modules: all of the code; another version of it makes other pairs.
        settings: what it is called with; anything whose `repr` says all.
        num_bytes: about the size of the texts.
    """
    digest = hashlib.sha256(repr((sys.version, settings)).encode())
    for module in modules:
        digest.update(Path(str(module.__file__)).read_bytes())
    return Content(digest.hexdigest()[:32], num_bytes)


def content_of_pairs(pairs: Iterable[PreferencePair]) -> str:
    """Hash of pairs that are made, and not read (32 hex digits)."""
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(repr(pair).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:32]


def content_of_files(path: Path, settings: Any) -> Content:
    """Identity of a file, or of every file of a folder, and of the settings that it is read with.

    A file is known by its place, size and times, those of the last change to its contents and its entry: hashing
    what it holds would take minutes where a start takes seconds. A copy is another file.

    Args:
        path: what is read.
        settings: what it is read with; anything whose `repr` says all.

    Raises:
        MissingFileError: a file went away meanwhile.
    """
    files = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
    try:
        states = [(str(file.resolve()), file.stat()) for file in files]
    except FileNotFoundError as error:
        raise MissingFileError(
            f"expected the files in {path} to stay while they are read, but {error.filename} is gone; run the command "
            "again, or name a folder that nothing else writes to"
        ) from error
    lines = [(name, state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino) for name, state in states]
    digest = hashlib.sha256(json.dumps([lines, repr(settings)]).encode())
    return Content(digest.hexdigest()[:32], sum(state.st_size for _, state in states))


def content_of_source(source: str, split: str, argument: str, settings: Any) -> Content | None:
    """Identity of files, a folder or a data set by name, as `read_records` takes them; `None` if nothing is there.

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
