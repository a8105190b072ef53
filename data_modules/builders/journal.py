"""Append-only memory of a build: what a generator answered is never asked again.

Pairs are a pure function of records, settings and answers, so this file is all that a killed build
needs to go on, and a finished one to be checked.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from data_modules.builders.requests import Completion, digest
from data_modules.records import RecordError, decode_json

MANIFEST = "manifest.json"
ANSWERS = "answers.jsonl"


class Journal:
    """Answers by content key, in a JSONL file.

    Args:
        file: opened for reading and appending, exclusively.
        path: of the file, for errors.
    """

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self._where: dict[str, int] = {}
        self._load()

    def __contains__(self, key: str) -> bool:
        return key in self._where

    def __len__(self) -> int:
        return len(self._where)

    def __getitem__(self, key: str) -> Completion:
        self._file.seek(self._where[key])
        row = json.loads(self._file.readline())
        return Completion(**{name: value for name, value in row.items() if name != "key"})

    def append(self, key: str, completion: Completion) -> None:
        """Write an answer to the file before anything is made of it; the first answer to a key stays."""
        if key in self._where or completion.error:
            return
        self._file.seek(0, 2)
        start = self._file.tell()
        line = json.dumps({"key": key, **asdict(completion)}, ensure_ascii=True) + "\n"
        self._file.write(line.encode())
        self._file.flush()
        self._where[key] = start

    def _load(self) -> None:
        """Index the lines; a last line without an end was being written when the build died, and goes.

        Raises:
            RecordError: a line before the last one is damaged.
        """
        self._file.seek(0)
        start = 0
        for number, line in enumerate(self._file, 1):
            if not line.endswith(b"\n"):
                self._file.truncate(start)
                break
            row = decode_json(line, f"{self._path}:{number}")
            if not isinstance(row, dict) or not isinstance(row.get("key"), str):
                raise RecordError.at(f"{self._path}:{number}", "record", "an answer with its key", row)
            self._where.setdefault(row["key"], start)
            start += len(line)


@contextmanager
def open_journal(folder: Path, manifest: Mapping[str, Any]) -> Iterator[Journal]:
    """The journal of a build's folder, for one process at a time.

    Args:
        folder: made if it is not there.
        manifest: what the pairs depend on; written by the first run, compared by later ones.

    Raises:
        ValueError: the folder holds another build.
        BlockingIOError: another process is building there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ANSWERS
    with open(path, "a+b") as file:
        _lock(file, folder)
        _check_manifest(folder, manifest)
        yield Journal(file, path)


def _lock(file: BinaryIO, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # not on Windows; there two builds in one folder are the user's care
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BlockingIOError(
            f"expected no other build in {folder}, found one that is running; wait for it or set another `output`"
        ) from error


def _check_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    path = folder / MANIFEST
    wanted = json.loads(json.dumps({**manifest, "hash": digest(manifest)}, default=str))
    if not path.exists():
        draft = path.with_suffix(".partial")
        draft.write_text(json.dumps(wanted, indent=2) + "\n")
        draft.replace(path)
        return
    found = json.loads(path.read_text())
    if found != wanted:
        changed = sorted(name for name in {*found, *wanted} - {"hash"} if found.get(name) != wanted.get(name))
        raise ValueError(
            f"expected {folder} to hold a build with these settings, got one with another {', '.join(changed)} "
            f"(see {path}); set another `output`, or delete the folder to start over"
        )
