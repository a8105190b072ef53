"""Checkpoints in object stores (`s3://...`): fetched before they are loaded, so that they are looked at like any file.

Lightning would load them as they come: no checksum compared, no setting.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

from fsspec.core import url_to_fs
from lightning.pytorch.callbacks import ModelCheckpoint

from lit_longpo.errors import InputError, StorageError, UserError, error_text
from lit_longpo.files.storing import room_problem

log = logging.getLogger(__name__)

_NOT_FETCHED = ("http", "registry")  # refused, and Lightning's own
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "created")  # as S3, Azure, Google and disks call them


def is_address(name: object) -> bool:
    """Whether it names something in an object store."""
    text = str(name)
    return "://" in text and not text.startswith(_NOT_FETCHED)


@contextmanager
def fetched(name: str | Path | None) -> Iterator[str | Path | None]:
    """A copy of a checkpoint on a disk while it is used, if it lies in an object store; anything else as it is.

    Raises:
        InputError: nobody can read that address, or no file is there.
        StorageError: there is no room for the copy.
    """
    if not is_address(name):
        yield name
        return
    address = str(name)
    with TemporaryDirectory(prefix="fetched-") as folder:
        copy = Path(folder) / (address.rstrip("/").rpartition("/")[2] or "last.ckpt")
        _fetch(address, copy)
        try:
            yield copy
        except UserError as error:  # the copy will be gone
            raise type(error)(str(error).replace(str(copy), address)) from error


def refuse_root(root: str | Path) -> None:
    """Refuse an address for the runs' folder, into which tokens, reference values and reports are written as files."""
    if "://" in str(root):
        raise InputError(
            f"expected a folder on a disk for `trainer.default_root_dir`, got {root}; checkpoints alone may lie in an "
            "object store: name a folder, and set `dirpath` of ModelCheckpoint to the address"
        )


def refuse_last_elsewhere(callbacks: Sequence[ModelCheckpoint]) -> None:
    """Refuse to look for "last" on the disk where an object store has this run's checkpoints."""
    places = (str(callback.dirpath) for callback in callbacks)
    for place in filter(is_address, places):
        store, inside = _store(place)
        store.invalidate_cache()
        if found := [path for path in store.glob(f"{inside.rstrip('/')}/*.ckpt") if store.isfile(path)]:
            newest = max(found, key=lambda path: _written(store.info(path)))
            address = f"{place.rstrip('/')}/{newest.rpartition('/')[2]}"
            raise InputError(
                f"expected the address of a checkpoint, as this run's lie in {place}, got `last`, which is looked for "
                f"on disks; type --ckpt_path {address}"
            )


def _fetch(address: str, copy: Path) -> None:
    store, inside = _store(address)
    try:
        size = int(store.size(inside) or 0) if store.isfile(inside) else None
    except Exception as error:  # every store fails in its own way
        raise InputError(f"expected a checkpoint at {address}, got {error_text(error)}; correct --ckpt_path") from error
    if size is None:
        raise InputError(
            f"expected a checkpoint file at {address}, found none; correct --ckpt_path (folders of FSDP2 and DeepSpeed "
            "have to be copied to a disk first)"
        )
    if (problem := room_problem(Path(gettempdir()), size)) is not None:
        raise StorageError(f"expected room for a copy of {address}: {problem}; the variable TMPDIR names another place")
    log.info("fetching %s (%.1f MB)", address, size / 1e6)
    store.get_file(inside, str(copy))


def _store(address: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it."""
    try:
        store, inside = url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise InputError(f"expected an address that can be read, got {address}: {error_text(error)}") from error
    return store, inside


def _written(info: Mapping[str, Any]) -> str:
    """When, in an order that one store keeps to itself."""
    return next((str(info[name]) for name in _TIMES if info.get(name)), "")
