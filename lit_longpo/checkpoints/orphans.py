"""Removes the half-written checkpoints and models of runs that were killed, when the next run starts beside them."""

import logging
from collections.abc import Iterator
from pathlib import Path

from lit_longpo.checkpoints.whole import discard
from lit_longpo.run_folder import has_owner

log = logging.getLogger(__name__)

_HALF_WRITTEN = ("*.partial", "*/*.partial")  # a model or a file; a checkpoint in its folder


def remove_orphans(folder: Path, *, numbered: bool) -> None:
    """Remove checkpoints and models that were being written when a run was killed.

    Args:
        folder: of this run, which owns it and has written nothing yet.
        numbered: whether it is one of several versions; then those beside it are looked through, but for what a run
            that goes on owns.
    """
    for place in _left_alone(folder) if numbered else [folder]:
        for path in sorted(path for pattern in _HALF_WRITTEN for path in place.glob(pattern)):
            discard(path)
            log.info("removed: %s, half written by a run that was killed", path)


def _left_alone(folder: Path) -> Iterator[Path]:
    """The other versions that no living run owns; those of which that cannot be known are left alone."""
    others = (other for other in sorted(folder.parent.glob("version_*")) if other != folder and other.is_dir())
    return (other for other in others if has_owner(other) is False)
