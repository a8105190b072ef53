"""Locks that keep other processes out of a folder while one of its files is open, however the process ends."""

import errno
import logging
from pathlib import Path
from typing import BinaryIO

from lit_longpo.errors import BusyError

log = logging.getLogger(__name__)

_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def lock(file: BinaryIO, folder: Path, kind: str, setting: str = "output") -> None:
    """Keep other processes out while the file is open.

    Where there are no locks, two runs in one folder are the user's care, which is said.

    Raises:
        BusyError: another process holds it.
    """
    taken = take(file)
    if taken is None:
        log.warning("%s lies where there are no locks: start no other %s in it", folder, kind)
    elif not taken:
        raise BusyError(
            f"expected no other {kind} in {folder}, found one that is running; wait for it or set another `{setting}`"
        )


def take(file: BinaryIO) -> bool | None:
    """Whether the lock is ours now, or another's; `None` on Windows and where a file system has none (some Lustre).

    Closing the file, which was opened for writing, gives the lock back.
    """
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
        return None
    return True
