"""Append-only memory of a build: what a generator answered is never asked again.

Pairs are a pure function of records, settings and answers, so this file is all that a killed build
needs to go on, and a finished one to be checked.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, BinaryIO

from data_modules.builders.generators.requests import Completion, digest
from lit_longpo.files.locks import lock
from lit_longpo.files.manifest import check_manifest, complete_lines
from lit_longpo.files.stored import line_of, stored_as, stored_line
from lit_longpo.files.storing import check_there
from lit_longpo.files.strict_json import RecordError, instead

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
        return _answer(self._file.readline(), f"{self._path}: the answer to {key}")[1]

    def append(self, key: str, completion: Completion) -> None:
        """Write an answer to the file before anything is made of it; the first answer to a key stays."""
        if key in self._where or completion.error:
            return
        self._file.seek(0, 2)
        start = self._file.tell()
        check_there(self._file, self._path, "--output FOLDER")
        self._file.write(line_of({"key": key, **asdict(completion)}, ascii_only=True))
        self._file.flush()
        self._where[key] = start

    def _load(self) -> None:
        """Index the lines; a last line without an end was being written when the build died, and goes."""
        for number, (start, line) in enumerate(complete_lines(self._file), 1):
            with instead("delete the line to ask again"):
                key, _ = _answer(line, f"{self._path}:{number}")
            self._where.setdefault(key, start)


def _answer(line: bytes, where: str) -> tuple[str, Completion]:
    """A row's key and what was answered."""
    row = stored_line(line, where)
    key = row.pop("key", None)
    if not isinstance(key, str):
        raise RecordError.at(where, "field 'key'", "text", key)
    return key, stored_as(row, Completion, where)


@contextmanager
def open_journal(folder: Path, manifest: Mapping[str, Any]) -> Iterator[Journal]:
    """The journal of a build's folder, for one process at a time.

    Args:
        folder: made if it is not there.
        manifest: what the pairs depend on; written by the first run, compared by later ones.

    Raises:
        InputError: the folder holds another build.
        BusyError: another process is building there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ANSWERS
    with open(path, "a+b") as file:
        lock(file, folder, "build")
        check_manifest(folder, {**manifest, "hash": digest(manifest)}, "build", lines=[path])
        yield Journal(file, path)


def describe(value: Any) -> Any:
    """Settings as JSON: class names and fields; fields marked `runtime` change no result and are left out."""
    name = type(value).__name__
    if is_dataclass(value) and not isinstance(value, type):
        settings = [item.name for item in fields(value) if item.init and not item.metadata.get("runtime")]
        return {"class": name} | {setting: describe(getattr(value, setting)) for setting in settings}
    if isinstance(value, dict):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [describe(item) for item in value]
    if isinstance(value, str | int | float | bool | None):
        return value
    if isinstance(value, Path):
        return str(value)
    # somebody's own class
    return {"class": name} | {key: describe(item) for key, item in vars(value).items() if not key.startswith("_")}
