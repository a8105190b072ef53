"""A run's folder: its number, its one owner while the run is alive, and where a trial writes instead."""

import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lit_longpo.errors import message_for_user
from lit_longpo.files.locks import lock, take

_LOCK = ".running"
_FIRST_FILES = ("config.yaml", "hparams.yaml", "data_report.json", "events.out.tfevents*", _LOCK)  # before a step


def claim_version(logger: Any) -> bool:
    """Make the folder of a logger that numbers its versions as Lightning's do, so that no other run takes that number.

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


def claim_versions(loggers: Sequence[Any]) -> list[Any]:
    """Claim a number for every logger of a run; those whose runs lie in one folder share it.

    Lightning 2.6 lets each count the others' folders: the events of `version_0` are in `version_1`, which another run
    takes at the same time.

    Returns:
        Those whose folder is new.
    """
    claimed = list[Any]()
    for logger in loggers:
        beside = next((each for each in claimed if _numbers_alike(each, logger)), None)
        if beside is not None:
            logger._version = beside._version
        if beside is not None or claim_version(logger):
            claimed.append(logger)
    return claimed


def _numbers_alike(claimed: Any, logger: Any) -> bool:
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger  # seconds, for commands without a trainer

    numbering = (CSVLogger, TensorBoardLogger)
    if not (isinstance(claimed, numbering) and isinstance(logger, numbering) and logger._version is None):
        return False
    return Path(claimed.root_dir) == Path(logger.root_dir)


def folder_of_run(trainer: Any) -> Path:
    """Where a run writes: the first logger's folder, or the root folder. A collective call, as it broadcasts."""
    return Path(trainer.log_dir or trainer.default_root_dir)


def folder_of_logger(logger: Any, root: str) -> str:
    """The folder of a run whose logger says only where all of its runs lie; `ModelCheckpoint` puts checkpoints there.

    Args:
        logger: whose run has begun.
        root: where it says nothing, as for runs on a server.
    """
    version = logger.version if isinstance(logger.version, str) else f"version_{logger.version}"
    return str(Path(logger.save_dir or root) / str(logger.name) / version)


def release_versions(loggers: Sequence[Any]) -> None:
    """Take back `claim_versions`: remove the folders of a run that was refused, if nothing was done in them."""
    for logger in loggers:
        folder = Path(logger.log_dir)
        if all(any(path.match(name) for name in _FIRST_FILES) for path in folder.glob("*")):
            if folder.exists():  # not if it was another logger's, too
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
    """A place to write to: the folder; in a trial another one on the same disk, which is deleted at the end."""
    if not keeps_nothing(trainer):
        yield folder
        return
    there = next(path for path in folder.absolute().parents if path.is_dir())
    with tempfile.TemporaryDirectory(prefix=".trial-", dir=there) as place:
        yield Path(place) / folder.name


@contextmanager
def released_if_refused(loggers: Sequence[Any], begun: Callable[[], bool]) -> Iterator[None]:
    """Keep the numbers of runs to those that trained: a new folder goes if its run is refused before the first row.

    Args:
        loggers: that made new folders (`claim_versions`).
        begun: whether a row has been trained on.
    """
    try:
        yield
    except Exception as error:
        if message_for_user(error) is not None and not begun():
            release_versions(loggers)
        raise


@contextmanager
def only_owner(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder that was named, until this one ends, however it ends.

    Raises:
        BusyError: another run is at work there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("ab") as file:
        lock(file, folder, "fit", "trainer.default_root_dir")
        yield


def has_owner(folder: Path) -> bool | None:
    """Whether a run that is alive owns the folder; `None` where that cannot be known."""
    try:
        with (folder / _LOCK).open("r+b") as file:  # network file systems lock what can be written to
            taken = take(file)
    except OSError:  # no run of ours, or its folder cannot be read
        return None
    return None if taken is None else not taken
