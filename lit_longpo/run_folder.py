"""A run's folder has one owner, and where it is filled line by line a killed run can go on with it."""

import errno
import json
import logging
import shlex
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from lit_longpo.errors import BusyError, InputError, message_for_user
from lit_longpo.files.stored import sealed, stored_object, unsealed
from lit_longpo.files.strict_json import instead, shortened

log = logging.getLogger(__name__)

_LOCK = ".running"
_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_FIRST_FILES = ("config.yaml", "hparams.yaml", "data_report.json", "events.out.tfevents*", _LOCK)  # before a step
MANIFEST = "manifest.json"
_ANEW = "type --output FOLDER to use another folder, or delete {folder} to start over"


def claim_version(logger: Any) -> bool:
    """Make the folder of a logger of Lightning's that numbers its versions, so that no other run takes that number.

    Args:
        logger: of any kind.

    Returns:
        Whether the folder is new; not if the logger has none or was told its name.
    """
    if getattr(logger, "_version", "told") is not None:
        return False
    while True:
        folder = Path(logger.log_dir)  # looks for the next free number
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            logger._version = None
        else:
            return True


def run_folder_of(logger: Any, root: str) -> str:
    """The folder of a run whose logger says only where all of its runs lie; `ModelCheckpoint` puts checkpoints there.

    Args:
        logger: whose run has begun.
        root: where it says nothing, as for runs on a server.
    """
    version = logger.version if isinstance(logger.version, str) else f"version_{logger.version}"
    return str(Path(logger.save_dir or root) / str(logger.name) / version)


def release_version(logger: Any) -> None:
    """Take back `claim_version`: remove the folder of a run that was refused, if nothing was done in it.

    Args:
        logger: that made a new folder.
    """
    folder = Path(logger.log_dir)
    if all(any(path.match(name) for name in _FIRST_FILES) for path in folder.iterdir()):
        shutil.rmtree(folder)
        logger._version = logger._experiment = None  # another `fit` of the same trainer takes a number of its own


def keeps_nothing(trainer: Any) -> bool:
    """Whether a run is only tried (`trainer.fast_dev_run`)."""
    return bool(getattr(trainer, "fast_dev_run", False))


def typed_path(path: Path | str) -> str:
    """A path as one would type it: from the current folder if it is below that, quoted where a shell asks for it."""
    place, here = Path(path).expanduser().absolute(), Path.cwd()
    return shlex.quote(str(place.relative_to(here) if place.is_relative_to(here) else place))


@contextmanager
def results_folder(folder: Path, trainer: Any) -> Iterator[Path]:
    """A place to write to: the folder; in a trial another one on the same disk, which is deleted at the end.

    Args:
        folder: where a run's results belong.
        trainer: of the run.
    """
    if not keeps_nothing(trainer):
        yield folder
        return
    there = next(path for path in folder.absolute().parents if path.is_dir())
    with tempfile.TemporaryDirectory(prefix=".trial-", dir=there) as place:
        yield Path(place) / folder.name


@contextmanager
def released_if_refused(logger: Any, begun: Callable[[], bool]) -> Iterator[None]:
    """Keep the numbers of runs to those that trained: a new folder goes if its run is refused before the first row.

    Args:
        logger: that made a new folder (`claim_version`).
        begun: whether a row has been trained on.
    """
    try:
        yield
    except Exception as error:
        if message_for_user(error) is not None and not begun():
            release_version(logger)
        raise


@contextmanager
def only_owner(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder that was named, until this one ends, however it ends.

    Raises:
        BlockingIOError: another run is at work there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("ab") as file:
        lock(file, folder, "fit", "trainer.default_root_dir")
        yield


def has_owner(folder: Path) -> bool | None:
    """Whether a run that is alive owns the folder; `None` where that cannot be known.

    Args:
        folder: of a run.
    """
    try:
        with (folder / _LOCK).open("r+b") as file:  # network file systems lock what can be written to
            taken = _take(file)
    except OSError:  # a run of before such folders had owners; or its folder cannot be read
        return None
    return None if taken is None else not taken


def lock(file: BinaryIO, folder: Path, kind: str, setting: str = "output") -> None:
    """Keep other processes out while the file is open.

    Where there are no locks, two runs in one folder are the user's care, which is said.

    Args:
        file: one of the folder's files.
        folder: for the error.
        kind: of the run, for example "build".
        setting: what names the folder, for the error.

    Raises:
        BlockingIOError: another process holds it.
    """
    taken = _take(file)
    if taken is None:
        log.warning("%s lies where there are no locks: start no other %s in it", folder, kind)
    elif not taken:
        raise BusyError(
            f"expected no other {kind} in {folder}, found one that is running; wait for it or set another `{setting}`"
        )


def _take(file: BinaryIO) -> bool | None:
    """Whether the lock is ours now, or another's; `None` on Windows and where a file system has none (some Lustre)."""
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


def check_manifest(
    folder: Path,
    manifest: Mapping[str, Any],
    kind: str,
    notes: Mapping[str, Any] | None = None,
    lines: Iterable[Path] = (),
) -> None:
    """Write down what the folder's lines depend on, or compare with what the first run wrote.

    Args:
        folder: of the run.
        manifest: what is compared.
        kind: of the run, for example "build".
        notes: what is written with it and not compared.
        lines: files of the folder that depend on it.

    Raises:
        ValueError: the folder holds a run with other settings, or lines of which nobody knows on what they depend.
    """
    path = folder / MANIFEST
    wanted = json.loads(json.dumps(dict(manifest), default=str))
    if not path.exists():
        _refuse_unnamed(folder, lines)
        draft = path.with_suffix(".partial")
        everything = json.loads(json.dumps({**wanted, **(notes or {})}, default=str))
        draft.write_text(json.dumps(sealed(everything), indent=2) + "\n")
        draft.replace(path)
        return
    held = read_manifest(folder)
    stored = {name: value for name, value in held.items() if name not in (notes or {})}
    _refuse_other(path, stored, wanted, kind)


def as_known_there(folder: Path, manifest: Mapping[str, Any], later: Collection[str]) -> dict[str, Any]:
    """The manifest without what folders of before do not know, if this is one, so that they go on.

    Args:
        folder: of the run.
        manifest: what will be compared.
        later: names that came into manifests later.

    Raises:
        RecordError: the folder's own is damaged.
    """
    held = read_manifest(folder) if (folder / MANIFEST).exists() else manifest
    return {name: value for name, value in manifest.items() if name not in later or name in held}


def check_known(folder: Path, known: Mapping[str, Any], kind: str, lines: Iterable[Path] = ()) -> None:
    """As `check_manifest`, of what can be known early; nothing is written.

    Args:
        folder: of the run; it may not be there yet.
        known: part of the manifest.
        kind: of the run, for example "build".
        lines: files of the folder that depend on it.

    Raises:
        ValueError: the folder holds a run with other settings, or lines of which nobody knows on what they depend.
    """
    path = folder / MANIFEST
    if not path.exists():
        _refuse_unnamed(folder, lines)
    else:
        stored = read_manifest(folder)
        wanted = json.loads(json.dumps(dict(known), default=str))
        _refuse_other(path, {name: stored.get(name) for name in wanted}, wanted, kind)


def read_manifest(folder: Path) -> dict[str, Any]:
    """What the first run has written down.

    Args:
        folder: of the run, with a manifest.

    Raises:
        RecordError: it is damaged, or another than was written.
    """
    with instead(_ANEW.format(folder=folder)):
        return unsealed(stored_object(folder / MANIFEST), str(folder / MANIFEST))


def _refuse_unnamed(folder: Path, lines: Iterable[Path]) -> None:
    """A run writes its manifest before its first line: another model's answers would be taken for this one's."""
    for file in sorted(lines):
        if file.is_file() and file.stat().st_size:
            raise InputError(
                f"expected {MANIFEST} beside {file}, which says what made its lines, found none; put it back, or "
                f"{_ANEW.format(folder=folder)}"
            )


def _refuse_other(path: Path, stored: Mapping[str, Any], wanted: Mapping[str, Any], kind: str) -> None:
    changed = sorted(name for name in {*stored, *wanted} if stored.get(name) != wanted.get(name))
    if changed:
        named = " and another ".join(shortened(name) for name in changed if name != "hash")
        raise InputError(
            f"expected the {kind} in {path.parent} to be of the same settings, got one with another {named} (see "
            f"{path}); type --output FOLDER to use another folder, or delete this one to start over"
        )


def complete_lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Every line and where it starts; a last one without an end was being written at the kill, and is cut off.

    Args:
        file: opened for reading and writing.
    """
    file.seek(0)
    start = 0
    for line in file:
        if not line.endswith(b"\n"):
            file.truncate(start)
            return
        yield start, line
        start += len(line)
