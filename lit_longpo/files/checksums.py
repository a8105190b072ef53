"""Checksums of the files in a folder, stored in a file beside them, so that changed bits are noticed."""

import zlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from lit_longpo.errors import InputError
from lit_longpo.files.stored import read_stored, write_json

CHECKSUMS = "checksums.json"
_BLOCK = 1 << 22  # bytes that are read at a time


def checksum_of(path: Path) -> str:
    """CRC-32 of a file, as eight hex digits."""
    value = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            value = zlib.crc32(block, value)
    return f"{value:08x}"


def write_checksums(folder: Path, names: Iterable[str]) -> None:
    """Store the checksums of some files of a folder."""
    write_json(folder / CHECKSUMS, {name: checksum_of(folder / name) for name in names}, indent=1)


def changed(path: Path) -> bool:
    """Whether a file differs from its stored checksum; False if none is stored.

    Reads the file once, unless nobody has written to it since.

    Raises:
        RecordError: the checksums themselves are damaged.
    """
    beside = path.parent / CHECKSUMS
    if not (beside.is_file() and path.is_file()):
        return False
    known = read_stored(beside, dict[str, str], f"delete {beside}, which only holds checksums")
    state = path.stat()
    return path.name in known and known[path.name] != _checksum(path.absolute(), state.st_size, state.st_mtime_ns)


def refuse_changed(path: Path, advice: str) -> None:
    """Refuse a file that differs from its stored checksum; the advice says what makes it anew."""
    if changed(path):
        raise InputError(
            f"expected {path} as it was written, but its checksum in {CHECKSUMS} is another, so it is damaged; {advice}"
        )


@cache
def _checksum(path: Path, size: int, written: int) -> str:
    return checksum_of(path)
