"""Tokenised examples on disk: written once by one process, whole or absent, mapped by every later run.

    <root>/<key>/words.bin table.bin names.bin keys.bin store.json

The key says what the tokens depend on. The folder gets its name when everything is in it; `store.json` has checksums.
"""

import hashlib
import json
import logging
import mmap
import os
import zlib
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from data_modules.rows.encoding import EncodedPair
from data_modules.rows.stores.token_store import TABLE, Digest, TokenStore, stored
from lit_longpo.checkpoints.whole import discard, partial_name
from lit_longpo.errors import InputError, UserError
from lit_longpo.files.storing import storing

log = logging.getLogger(__name__)

MANIFEST = "store.json"
_FILES: dict[str, Any] = {"words.bin": np.int32, "table.bin": TABLE, "names.bin": np.uint8, "keys.bin": np.uint64}
_BLOCK = 1 << 24  # bytes of one checksum of the words
_BLOCKS_READ = 64  # that are compared when a store is opened; of the others each example is, when it is read

Notes = dict[str, Any]


@dataclass(frozen=True)
class StoreFolder:
    """One tokenised split.

    Args:
        root: folder of all of them.
        key: hash of what its tokens depend on.
    """

    root: Path
    key: str

    @property
    def path(self) -> Path:
        """The folder of the split."""
        return self.root / self.key

    def open_or_write(
        self, examples: Callable[[], Iterable[EncodedPair]], notes: Callable[[], Notes]
    ) -> tuple[TokenStore, Notes]:
        """The store and the notes it was written with; one process writes it, others wait.

        Args:
            examples: makes them one by one; called if there is no whole store.
            notes: what is to be said about them, as JSON; called when the last example was made.

        Raises:
            StorageError: the folder cannot be written.
        """
        if self._fault() is None:
            log.info("tokens: read from %s", self.path)
            return self._open()
        log.info("tokens: written to %s, for this run and later ones", self.path)
        try:
            with storing(self.root, "--data.token_cache FOLDER"):
                self.root.mkdir(parents=True, exist_ok=True)
                with FileLock(self.root / f"{self.key}.lock"):
                    fault = self._fault()  # another process may have written it meanwhile
                    if fault is not None:
                        self._write_anew(fault, examples, notes)
        except UserError:  # of a record, or what the disk refuses
            raise
        except OSError as error:
            raise InputError(
                f"expected to write tokenised examples to {self.path}, got {error}; make room, or set "
                "`data.init_args.token_cache` to another folder"
            ) from error
        return self._open()

    def opened(self) -> TokenStore | None:
        """The store, if it is there and whole; nothing is written."""
        return self._open()[0] if self._fault() is None else None

    def _write_anew(
        self, fault: str, examples: Callable[[], Iterable[EncodedPair]], notes: Callable[[], Notes]
    ) -> None:
        if self.path.exists():
            log.warning("tokens: %s is damaged (%s), everything in it is tokenised again", self.path, fault)
        partial = partial_name(self.path)
        discard(partial)  # of a run that was killed
        discard(self.path)
        partial.mkdir()
        try:
            fingerprint = _write(partial, examples())
            manifest = json.dumps({"fingerprint": fingerprint, "files": _checksums(partial), "notes": notes()})
            (partial / MANIFEST).write_text(f"{manifest}\n{_sha256(manifest)}\n")
            partial.rename(self.path)
        finally:
            discard(partial)

    def _fault(self) -> str | None:
        """What is wrong, in words; `None` for a whole store."""
        if not self.path.is_dir():
            return "it is not there"
        try:
            files = self._manifest()["files"]
            for name in _FILES:
                size = (self.path / name).stat().st_size
                if size != files[name]["size"]:
                    return f"{name} has {size:,} bytes instead of {files[name]['size']:,}"
                if not _agrees(self.path / name, files[name]["checksum"]):
                    return f"the checksum of {name} has changed"
        except (OSError, ValueError, KeyError, TypeError) as error:
            return f"{type(error).__name__}: {error}"
        return None

    def _open(self) -> tuple[TokenStore, Notes]:
        manifest = self._manifest()
        return MappedStore(self.path, manifest["fingerprint"]), manifest["notes"]

    def _manifest(self) -> Notes:
        """What was written about the files; its own checksum is its second line."""
        text, checksum = (self.path / MANIFEST).read_text().splitlines()
        if _sha256(text) != checksum:
            raise InputError(f"the checksum of {MANIFEST} has changed")
        manifest: Notes = json.loads(text)
        return manifest


class MappedStore(TokenStore):
    """A store whose arrays are files; a process that is handed one maps them again."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        words, table, names, keys = (_mapped(folder / name, kind) for name, kind in _FILES.items())
        super().__init__(words, table, names, keys, fingerprint, str(folder))

    def __reduce__(self) -> tuple[type["MappedStore"], tuple[Path, str]]:
        return MappedStore, (Path(self.origin), self.fingerprint())


def _write(folder: Path, examples: Iterable[EncodedPair]) -> str:
    """Write the arrays; returns the examples' fingerprint."""
    digest = Digest()
    with ExitStack() as opened:
        words, table, names, keys = (opened.enter_context((folder / name).open("wb")) for name in _FILES)
        for example in stored(examples, digest):
            words.write(example.words.data)
            table.write(example.line.tobytes())
            names.write(example.name)
            keys.write(example.keys.tobytes())
        for file in (words, table, names, keys):
            file.flush()
            os.fsync(file.fileno())  # the folder's name must not survive a power failure that its files do not
    return digest.value()


def _checksums(folder: Path) -> dict[str, Any]:
    return {name: {"size": (folder / name).stat().st_size, "checksum": _checksum(folder / name)} for name in _FILES}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _checksum(path: Path) -> str | list[int]:
    """Of the words one for each block, so that a large file need not be read whole to be looked at."""
    with path.open("rb") as file:
        if path.name != "words.bin":
            return hashlib.file_digest(file, "sha256").hexdigest()
        return [zlib.crc32(block) for block in iter(lambda: file.read(_BLOCK), b"")]


def _agrees(path: Path, checksum: str | list[int]) -> bool:
    if isinstance(checksum, str):
        return _checksum(path) == checksum
    step = -(-len(checksum) // _BLOCKS_READ) or 1
    with path.open("rb") as file:
        for number in range(0, len(checksum), step):
            file.seek(number * _BLOCK)
            if zlib.crc32(file.read(_BLOCK)) != checksum[number]:
                return False
    return True


def _mapped(path: Path, kind: Any) -> NDArray[Any]:
    """The file as an array that is read where it is looked at, and whose memory the system may take back."""
    if path.stat().st_size == 0:  # nothing to map
        return np.empty(0, kind)
    with path.open("rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), kind)
