"""Gives a checkpoint its name only when it is whole, and notices later damage.

It is written under a temporary name that ends in `.partial`, which nothing picks up. A folder then gets a
list of its files, their sizes and checksums (`checkpoint.json`), so that one that was cut off later, by a
full disk or half a copy, is noticed too; a single file is a zip archive, whose table of contents comes last
and holds a checksum of every tensor. `fault` looks at names and sizes, `damage` reads everything: about a
second for each GiB.
"""

import hashlib
import json
import logging
import os
import pickle
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch

from lit_longpo.errors import InputError, error_text
from lit_longpo.files.checksums import checksum_of
from lit_longpo.files.folders import holds_model
from lit_longpo.files.stored import read_stored
from lit_longpo.files.strict_json import RecordError, shortened

log = logging.getLogger(__name__)

MANIFEST = "checkpoint.json"
_PARTIAL = ".partial"
_LAST_WRITTEN = ("latest", "meta.pt")  # by DeepSpeed; by Lightning beside torch's shards

Kind = Literal["file", "torch folder", "DeepSpeed folder"]


@dataclass(frozen=True)
class Manifest:
    """The list of a checkpoint folder's files, with their sizes and checksums.

    Args:
        strategy: class name of the strategy that wrote it.
        world_size: processes that wrote it.
        files: sizes in bytes, by path inside the folder.
        checksums: CRC-32 of the files as eight hex digits, likewise.
    """

    strategy: str
    world_size: int
    files: dict[str, int]
    checksums: dict[str, str]

    @classmethod
    def of(cls, folder: Path) -> "Manifest | None":
        """The folder's list, or `None` if it has none (another program wrote it).

        Raises:
            RecordError: it is damaged.
        """
        path = folder / MANIFEST
        return read_stored(path, cls) if path.is_file() else None


def partial_name(path: Path) -> Path:
    """The temporary path under which a checkpoint is written until it is whole."""
    return path.with_name(path.name + _PARTIAL)


def discard(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def complete(partial: Path, path: Path, strategy: str, world_size: int) -> None:
    """Give a checkpoint its name; an older one of that name is replaced.

    At every moment there is a whole checkpoint: a file is replaced in one step; the older folder is first
    renamed to `NAME-replaced.ckpt`, which `--ckpt_path last` finds too.
    """
    files = sorted(file for file in partial.rglob("*") if file.is_file()) if partial.is_dir() else [partial]
    for file in files:
        _to_disk(file)
    if partial.is_dir():
        sizes = {str(file.relative_to(partial)): file.stat().st_size for file in files}
        manifest = Manifest(strategy, world_size, sizes, {name: checksum_of(partial / name) for name in sizes})
        (partial / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1) + "\n")
        _to_disk(partial / MANIFEST)
    replace(partial, path)


def replace(partial: Path, path: Path) -> None:
    """Rename `partial` to `path`, over a file or a folder."""
    if not path.is_dir():
        if partial.is_dir():
            discard(path)
        partial.replace(path)
        return
    older = path.with_name(f"{path.stem}-replaced{path.suffix}")
    discard(older)
    path.rename(older)
    partial.rename(path)
    older.rename(partial)  # while it is deleted, it must not look like a checkpoint
    discard(partial)


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """An empty folder to write into, which takes the place of `folder` when it is whole; an error leaves none."""
    partial = partial_name(folder)
    discard(partial)
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        discard(partial)
        raise
    replace(partial, folder)


def fault(path: Path) -> str | None:
    """What is wrong with a checkpoint, in words; `None` if it is whole."""
    if path.is_file():
        return None if _is_archive(path) else "it is not a torch file, or was cut off"
    if not path.is_dir():
        return "it is not there"
    try:
        manifest = Manifest.of(path)
    except RecordError as error:
        return f"its list of files is damaged ({error})"
    if manifest is None:
        known = any((path / name).is_file() for name in _LAST_WRITTEN)
        return None if known else _other_folder(path)
    if manifest.checksums.keys() != manifest.files.keys():
        return f"its list of files is damaged ({MANIFEST}: not as many checksums as sizes)"
    there = {str(file.relative_to(path)): file.stat().st_size for file in path.rglob("*") if file.is_file()}
    for name, size in manifest.files.items():
        if name not in there:
            return f"{shortened(name)} is missing"
        if there[name] != size:
            return f"{shortened(name)} has {there[name]:,} bytes instead of {size:,}"
    return None


def _is_archive(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # parts of its end contradict each other
        return False


def damage(path: Path) -> str | None:
    """What is wrong with the contents of a checkpoint's files, in words; `None` if every checksum agrees.

    Reads everything once. A folder without a list of its files, as other programs write them, is told.

    Only for a checkpoint without a `fault`.
    """
    if path.is_file():
        return _damage_in_archive(path)
    if (manifest := Manifest.of(path)) is None:
        log.warning("%s has no %s with checksums: whether it is as it was written is not known", path, MANIFEST)
        return None
    wrong = (name for name, checksum in manifest.checksums.items() if checksum_of(path / name) != checksum)
    name = next(wrong, None)
    return name and f"the checksum of {name} is another, so it is damaged"


def contents_hash(path: Path) -> str | None:
    """Hash of a checkpoint's tensors by the checksums that it holds, wherever it lies: none is read (32 hex digits).

    `None` for a folder without a list of its files, and for a checkpoint with a `fault`.
    """
    if fault(path) is not None:
        return None
    if path.is_file():  # what is not in `data/` says when it was written, and where
        with zipfile.ZipFile(path) as archive:
            tensors = [item for item in archive.infolist() if "/data/" in item.filename]
            held = [f"{item.file_size}:{item.CRC:08x}" for item in tensors]
    else:
        manifest = Manifest.of(path)
        held = [] if manifest is None else sorted(f"{name}:{value}" for name, value in manifest.checksums.items())
    return hashlib.sha256("\n".join(held).encode()).hexdigest()[:32] if held else None


def _damage_in_archive(path: Path) -> str | None:
    """Torch does not compare the checksums of its archives: changed bits would be other weights."""
    try:
        with zipfile.ZipFile(path) as archive:
            names, changed = archive.namelist(), archive.testzip()
    except Exception as error:  # a damaged archive fails in any way
        return f"it is damaged ({error_text(error)})"
    return _missing_part(path, names) if changed is None else f"it is damaged (in its part {changed})"


def _missing_part(path: Path, names: Sequence[str]) -> str | None:
    """What torch's own list of contents names and the archive has not: checksums are of what is there."""
    if any(name.endswith("/constants.pkl") for name in names):  # a script of torch's, which is not ours to judge
        return None
    try:
        torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except pickle.UnpicklingError:  # all there, and more than tensors: whoever loads it asks whether it may
        return None
    except Exception as error:  # an archive without its parts fails in any way
        said = error_text(error).partition(". ")[0]
        return f"it is damaged: parts of what torch writes are missing ({shortened(said)})"
    return None


def refuse_broken(path: Path, option: str, *, at_once: bool = False) -> None:
    """Refuse a checkpoint that is not whole, or not as it was written.

    Args:
        path: of the checkpoint.
        option: that takes it.
        at_once: only look at what can be told without reading the whole checkpoint.
    """
    if (wrong := fault(path) or (None if at_once else damage(path))) is not None:
        raise InputError(f"expected a whole checkpoint at {path}, but {wrong}; {advice(path, option)}")


def advice(path: Path, option: str) -> str:
    """What to type in place of a checkpoint that has a fault.

    Args:
        path: that was named; one without damage is looked for below a folder, or beside a checkpoint.
        option: that takes it.
    """
    others = whole_ones(path if path.is_dir() and path.suffix != ".ckpt" else path.parent)
    near = next((other for other in others if damage(other) is None), None)  # the one that was named is among them
    return f"set {option}" if near is None else f"type {option} {near}"


def _other_folder(path: Path) -> str:
    """Why a folder without a list of its files is no checkpoint."""
    if holds_model(path):
        return "it is the folder of a model, which `policy.source` takes"
    if newest_whole(path) is not None:
        return "it is a folder around checkpoints"
    return f"it has no {MANIFEST}: it was not written to the end, or by another program than `fit`"


def newest_whole(folder: Path) -> Path | None:
    """The checkpoint in the folder, or below it, that was written last and is whole."""
    return next(whole_ones(folder), None)


def whole_ones(folder: Path) -> Iterator[Path]:
    """The whole checkpoints in the folder, or below it, the newest first."""
    there = (path for path in folder.rglob("*.ckpt") if path.exists())  # not a link to what was deleted
    newest_first = sorted(there, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return (path for path in newest_first if fault(path) is None)


def kind(path: Path) -> Kind:
    """What sort of checkpoint it is.

    Raises:
        InputError: it is none that we know.
    """
    if path.is_file():
        return "file"
    if (path / ".metadata").is_file():
        return "torch folder"
    if (path / "latest").is_file():
        return "DeepSpeed folder"
    raise InputError(f"expected a checkpoint file or folder, got {path}; they end in .ckpt and lie in `checkpoints`")


def deepspeed_tag(folder: Path) -> str:
    """The name, in DeepSpeed's folder, of the folder with the tensors."""
    return (folder / "latest").read_text(errors="replace").strip()


def splits_weights(folder: Path) -> bool:
    """Whether each rank has written its share of every weight into DeepSpeed's folder, as under ZeRO-3."""
    return any((folder / deepspeed_tag(folder)).glob("zero_pp_rank_*_model_states.pt"))


def _to_disk(file: Path) -> None:
    """Wait until the file survives a power failure."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
