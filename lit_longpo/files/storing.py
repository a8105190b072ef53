"""Turns errors of the disk (full, read-only, gone) into one line: where, how much was needed, and what to type."""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from lit_longpo.errors import REFUSALS, StorageError, UserError, shown_path

_MAKE_ROOM = "make room"
_LET_WRITE = "let it be written to"
_HELP = {  # of what a disk refuses; of the rest it is `_LET_WRITE`
    errno.ENOSPC: _MAKE_ROOM,
    errno.EDQUOT: _MAKE_ROOM,
    errno.ENOTDIR: "move that file",
    errno.EEXIST: "move it",
    errno.ENAMETOOLONG: "shorten it",
    errno.ELOOP: "mend them",
    errno.EISDIR: "move it",
}
_FULL = (errno.ENOSPC, errno.EDQUOT)
# What an error of the operating system means, and what helps beside another place.
_CAUSES = {
    **{number: (cause, _HELP.get(number, _LET_WRITE)) for number, cause in REFUSALS.items()},
    errno.ESTALE: ("the file server has lost it", "mount it again"),
    errno.EIO: ("the disk reports an error", "look into the system's log"),
}
_REFUSED = ("no folder can be made there", _LET_WRITE)  # by /proc, for example
_DELETED = ("it is not there any more", "leave it alone")
# Libraries that write without Python say it in words only.
_IN_WORDS = re.compile(r"\b(?:os error|Errno) (\d+)\b")
_FAILED_WRITES = ("PytorchStreamWriter failed", "file write failed", "iostream error")
_ROOM = 1 << 20  # bytes; what failed with less than that free failed for lack of room


@contextmanager
def storing(folder: Path, elsewhere: str, need: int | None = None) -> Iterator[None]:
    """Inside the block, turn errors of the disk into one line, however deep in a library they were raised.

    Args:
        folder: that is written to, for example a run's.
        elsewhere: what to type to have another folder.
        need: bytes to be written, if that is known.

    Raises:
        StorageError: in place of such an error; any other passes.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        found = _refusal(error, folder)
        if found is None:
            raise
        path, cause, help_ = found
        room = _room(path, need) if help_ == _MAKE_ROOM else ""
        raise StorageError(
            f"expected to write to {shown_path(path)}, but {cause}{room}; {help_}, or type {elsewhere}; what was "
            "written before stays"
        ) from error


def check_writable(folder: Path, elsewhere: str) -> None:
    """Make a folder, and check that it can be written to, before anything is computed.

    Raises:
        StorageError: that cannot be done.
    """
    with storing(folder, elsewhere):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0")
            file.flush()


def room_problem(folder: Path, need: int) -> str | None:
    """Why so many bytes cannot be written below a folder; `None` if they can, or if nobody knows."""
    free = _free(folder)
    if free is None or free >= need:
        return None
    return f"about {_amount(need)} at {folder}, got {_amount(free)} that are free"


def check_there(file: IO[Any], path: Path, elsewhere: str) -> None:
    """Refuse to go on writing to a file that has been deleted: what is written to it is lost."""
    if os.fstat(file.fileno()).st_nlink == 0:
        cause, help_ = _DELETED
        raise StorageError(
            f"expected to write to {shown_path(path)}, but {cause}; {help_} while it is in use, or type {elsewhere}"
        )


def _refusal(error: BaseException, folder: Path) -> tuple[Path, str, str] | None:
    """Which path, why and what helps, from the error or those that it came from."""
    return next(filter(None, (_refused_by(one, folder) for one in _chain(error))), None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that it came from."""
    seen = set[int]()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__


def _refused_by(error: BaseException, folder: Path) -> tuple[Path, str, str] | None:
    path = Path(os.fsdecode(error.filename)) if isinstance(error, OSError) and error.filename else folder
    if (number := _number(error, folder)) in _CAUSES:
        # A file is moved from one disk to another, and the error names the first.
        fullest = min(path, folder, key=lambda place: _free(place) or 0)
        return (fullest if number in _FULL else path, *_CAUSES[number])
    if not isinstance(error, FileNotFoundError):
        return None
    if _is_gone(path.parent, folder):
        return (path.parent, *_DELETED)
    # A hub's error, for what is not stored here, names no file.
    if error.filename and path.absolute() in (folder.absolute(), *folder.absolute().parents):
        return (path, *_REFUSED)
    return None


def _is_gone(place: Path, folder: Path) -> bool:
    """Whether a place in the folder, or the folder, was deleted while it was written to."""
    return not os.path.exists(place) and folder.absolute() in (place.absolute(), *place.absolute().parents)


def _number(error: BaseException, folder: Path) -> int:
    """The operating system's number of an error; 0 for others."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    text = str(error)
    if told := _IN_WORDS.search(text):
        return int(told[1])
    if any(words in text for words in _FAILED_WRITES):
        free = _free(folder)
        return errno.ENOSPC if free is not None and free < _ROOM else errno.EIO
    return 0


def _room(folder: Path, need: int | None) -> str:
    free = _free(folder)
    parts = [] if need is None else [f"about {_amount(need)} are needed"]
    if free is not None:
        parts.append(f"{_amount(free)} are free")
    return f" ({', '.join(parts)})" if parts else ""


def _free(folder: Path) -> int | None:
    """Bytes that may be written below a folder."""
    places = (folder.absolute(), *folder.absolute().parents)
    there = next((path for path in places if os.path.exists(path)), None)  # `Path.exists` raises without permission
    try:
        return None if there is None else shutil.disk_usage(there).free
    except OSError:  # a file system that does not say
        return None


def _amount(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
