"""Sets up the process of a command: logging, SIGTERM, import paths, fast imports."""

import gc
import importlib.util
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import NoReturn

from packaging.specifiers import SpecifierSet

from lit_longpo.command_line.foreign_warnings import hide_hub_bars
from lit_longpo.errors import DIED, PACKAGES, InputError, MissingPackageError

# Its inner parts decide here what wins over what (precedence.py): another version would end in a traceback, or not ask
# what is put in their places.
_PARSER, _PARSERS = "jsonargparse", SpecifierSet(">=4.51,<4.54")


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does."""


@contextmanager
def importing() -> Iterator[None]:
    """While libraries are imported: nothing is collected, and what they have made is never looked through again.

    Imports make millions of objects that stay. Python's collector would look through all of them again and again, then
    and at every full collection of the run. Where torch is there before, the process is somebody else's: left alone.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def is_first(environment: Mapping[str, str]) -> bool:
    """Whether this is the first of all processes, as torchrun, SLURM or Lightning's own launcher numbers them."""
    ranks = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
    rank = next((environment[name] for name in ranks if name in environment), "0")
    return rank == "0" and environment.get("NODE_RANK", "0") == "0"


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Raise where SIGTERM comes, so that what is written is left whole; processes forked from this one just end."""
    owner = os.getpid()

    def end(signum: int, frame: FrameType | None) -> NoReturn:
        if os.getpid() != owner:
            os._exit(DIED + signum)
        raise Terminated

    if threading.current_thread() is not threading.main_thread():  # signals go to that one
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def import_from_here_last() -> None:
    """Let YAML name classes of the current folder under the console script, too, after everything installed."""
    if not {"", str(Path.cwd())} & set(sys.path):
        sys.path.append(str(Path.cwd()))


def refuse_namesakes() -> None:
    """Another project's package in the place of one of ours would be imported without a word.

    Raises:
        InputError: naming it.
    """
    root = Path(__file__).resolve().parents[2]
    for name in PACKAGES[1:]:
        spec = importlib.util.find_spec(name)
        found = Path(spec.origin).resolve() if spec and spec.origin else None
        if found != root / name / "__init__.py":
            raise InputError(
                f"expected the package `{name}` of lit_longpo at {root / name}, got {found or 'none'}, which Python "
                "finds first; start in another folder or rename that one, or type `lit_longpo` in place of "
                "`python -m lit_longpo`: it looks into the current folder last"
            )


def refuse_other_parser() -> None:
    """Refuse a version of jsonargparse that has not been tried, before anything is imported from it."""
    found = version(_PARSER)
    if found not in _PARSERS:
        raise MissingPackageError(
            f"expected {_PARSER} {_PARSERS}, whose inner parts the command line puts its own in place of, got {found}; "
            f"type: pip install '{_PARSER}[signatures]{_PARSERS}'"
        )


def log_to_terminal(*, first_process: bool) -> None:
    """The first process speaks for all: others read the same data and settings, and would say everything again."""
    if not first_process:
        hide_hub_bars()
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    for package in PACKAGES:
        logger = logging.getLogger(package)
        logger.setLevel(logging.INFO if first_process else logging.ERROR)
        # Not on the root: Lightning, imported later, would print every line of its own once more.
        if not logger.hasHandlers():
            logger.addHandler(handler)
