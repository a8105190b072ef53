"""Records from files, folders and data sets: (where, record) one by one, before anything is said about fields."""

import logging
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from data_modules.files.data_sets import (
    hub_rows,
    is_saved,
    is_saved_table,
    known_split,
    not_loaded,
    saved_rows,
    split_setting,
    with_a_name,
)
from data_modules.files.readers import READERS, reader_of
from lit_longpo.errors import InputError, MissingFileError
from lit_longpo.files.checksums import refuse_changed
from lit_longpo.files.folders import nearby
from lit_longpo.files.json_files import Rows
from lit_longpo.files.strict_json import RecordError
from lit_longpo.log_once import log_once

log = logging.getLogger(__name__)

BUILD_FROM_TEXT = "`python -m lit_longpo build --config build/longpo_chat --source.path FILE_OR_FOLDER`"
_OTHERS_RECORDS = (".ndjson", ".arrow", ".xlsx", ".zip", ".tar", ".gz", ".xz", ".bz2", ".zst")  # we do not read them
_PAPERS = ("README", "LICENSE", "LICENCE", "COPYING", "NOTICE", "CITATION", "CHANGELOG")  # LICENSE, license.txt, ...
_NUMBERED = re.compile(r"(?P<set>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.")
_PARTS = "[+"  # in the name of a split: a part of it, or several


def read_records(source: str, split: str, argument: str) -> Rows:
    """(where, record) of everything in a source, in order.

    Args:
        source: a `.jsonl`, `.json` (both also with `.gz`), `.parquet`, `.csv` or `.tsv` file, a folder of them or of
            `Dataset.save_to_disk`, or a data set's name.
        split: which split of a folder or data set; files have none.
        argument: name of the setting, for errors.

    Raises:
        MissingFileError: there is no such file or data set.
        InputError: a part of a split is asked for where there are no splits.
        RecordError: what is read is no JSON, or holds no record.
    """
    if any(sign in split for sign in _PARTS):
        check_splits(source, split, split_setting(argument), "write that part into a file of its own")
    rows = _rows(source, split, argument)
    first = next(rows, None)
    if first is None:
        raise RecordError.at(source, "file", "at least one record", "an empty file")
    yield first
    yield from rows


def check_splits(source: str, split: str, setting: str, instead: str) -> None:
    """Refuse a split of a file, or of a table that `Dataset.save_to_disk` wrote: all of it would be read."""
    if Path(source).is_file() or is_saved_table(Path(source)):
        raise InputError(
            f"expected a folder or data set with splits for `{setting}: {split}`, got {source}, which has none and "
            f"would be read whole; {instead}, and take `{setting}` out"
        )


def existing_file(path: str, argument: str, what: str) -> Path:
    """The path, if a file lies there.

    Args:
        path: as the user wrote it; relative to the working folder.
        argument: name of the setting, e.g. `data.init_args.path`.
        what: what the file should hold.

    Raises:
        MissingFileError: there is no such file; says where it was looked for and how to set it.
    """
    if not Path(path).is_file():
        raise MissingFileError(
            f"expected {what} at {str(Path(path).absolute())!r}, found no file there; set `{argument}` to an "
            f"existing file (in YAML, or `--{argument.replace('init_args.', '')}` on the command line)"
            f"{nearby(path)}{_writer(path)}"
        )
    return Path(path)


def _as_written(path: Path) -> Path:
    """The file, if it is what a build wrote, or nobody knows what it was."""
    refuse_changed(
        path, f"type the same `build` again (the answers are kept), or rename the file if you changed it: {path.name}"
    )
    return path


def _writer(path: str) -> str:
    """The command that writes a file of this name: recipes name the pairs that a build of ours will have made."""
    room, name, file = ("", "", "", *Path(path).parts)[-3:]
    if (room, file) != ("build", "pairs.jsonl"):
        return ""
    return f"; it is written by python -m lit_longpo build --config configs/build/{name}.yaml --policy.source MODEL"


def is_local(source: str) -> bool:
    """Whether a source is a file or folder, by its name or because it is there, and not the name of a data set."""
    return reader_of(source) is not None or Path(source).exists()


def _rows(source: str, split: str, argument: str) -> Rows:
    read = reader_of(source)
    if read is not None and not Path(source).is_dir():
        return read(_as_written(existing_file(source, argument, "preference pairs")))
    if Path(source).is_file():
        raise InputError(
            f"expected a file of {', '.join(READERS)}, got {source}; write its records into one of those, or make "
            f"pairs of plain text ({BUILD_FROM_TEXT}), and set `{argument}`"
        )
    if is_saved(Path(source)):
        return saved_rows(source, split, argument)
    return _folder(source, split, argument) if Path(source).is_dir() else hub_rows(source, split, argument)


def _folder(source: str, split: str, argument: str) -> Rows:
    """The files of a folder that belong to a split, by the rules of `datasets`, read as strictly as any file."""
    files = _files_by_split(source, split, argument)
    if files is None or any(sign in split for sign in _PARTS):  # a part of a split, or several
        return hub_rows(source, split, argument)
    left_out = _left_out(source, [path for of_split in files.values() for path in of_split])
    if split not in files and left_out:
        raise InputError(
            f"expected files of the split {split!r} in {source}, got {', '.join(left_out)}, of no split by the name, "
            f"beside files of: {', '.join(map(str, files))}; let names of that split's files begin with it "
            f"({split}-1.jsonl), or set `{argument}` to one file"
        )
    paths = _below(source, files[known_split(split, list(files), source, argument)])
    if not any(reader_of(path) for path in paths):
        return hub_rows(source, split, argument)
    if unread := [path for path in paths if not reader_of(path)]:
        raise InputError(
            f"expected files of {', '.join(READERS)} in {source}, got {unread[0]} among them; take it out of the "
            f"folder, or set `{argument}` to one file"
        )
    if left_out:
        log_once(
            log.warning,
            "%s: not read, because their names or kinds belong to no split: %s; give the files of one split the same "
            "beginning (train-1.jsonl, train-2.jsonl) and the same kind",
            *(source, ", ".join(left_out)),
        )
    if missing := _missing(paths):
        log_once(
            log.warning,
            "%s: %d of the files that the names of others count are not there, the first is %s: the rest is read; "
            "download them again, unless a part is wanted",
            *(source, len(missing), missing[0]),
        )
    return _chained(paths)


def _missing(paths: Iterable[str]) -> list[str]:
    """What numbered names (`train-00000-of-00003.parquet`) count, from 0 or 1, and is not among them; no endings."""
    found: dict[tuple[str, str], set[int]] = {}
    for part in filter(None, map(_NUMBERED.match, paths)):
        found.setdefault((part["set"], part["count"]), set()).add(int(part["number"]))
    missing = list[str]()
    for (name, count), numbers in found.items():
        first = int(int(count) in numbers)
        lacking = (number for number in range(first, first + int(count)) if number not in numbers)
        missing += [f"{name}-{number:05d}-of-{count}" for number in lacking]
    return missing


def _files_by_split(source: str, split: str, argument: str) -> Mapping[Any, list[str]] | None:
    """The files of every split of a folder; `None` if they are none that `datasets` names."""
    import datasets

    try:
        files: Mapping[Any, list[str]] | None = datasets.load_dataset_builder(with_a_name(source)).config.data_files
    except Exception as error:  # it raises a dozen types; all mean that it found no data files
        raise not_loaded(source, split, argument, error) from error
    return files


def _below(source: str, files: Iterable[str]) -> list[str]:
    """Files of records, by their paths through the folder as it is named: an id must not depend on where it lies."""
    folder = Path(source).resolve()  # `datasets` makes paths absolute
    paths = (os.path.join(source, os.path.relpath(path, folder)) for path in files)
    return [path for path in paths if not _is_about_the_set(Path(path).name)]


def _left_out(source: str, taken: Iterable[str]) -> list[str]:
    """Files of records in a folder that no split has: `datasets` goes by names, and reads files of one kind only.

    Not its own files about a data set, nor what cannot hold records; such as hold them where we do not look are.
    """
    resolved = {Path(path).resolve() for path in taken}
    inside = (path for path in sorted(Path(source).rglob("*")) if path.is_file())
    files = ((path.relative_to(source), path.resolve()) for path in inside)
    shown = [(name, path) for name, path in files if not any(part[0] in "._" for part in name.parts)]
    return [str(name) for name, path in shown if _may_hold_records(name) and path not in resolved]


def _may_hold_records(name: Path) -> bool:
    readable = reader_of(name.name.lower()) is not None or name.suffix.lower() in _OTHERS_RECORDS
    return readable and not _is_about_the_set(name.name)


def _is_about_the_set(name: str) -> bool:
    """Whether a file of this name belongs to a data set's folder without being data: citation.jsonl is data."""
    from datasets.data_files import FILES_TO_IGNORE

    is_paper = name.partition(".")[0].upper() in _PAPERS and reader_of(name) is None
    return is_paper or name in (*FILES_TO_IGNORE, "state.json")


def _chained(paths: Iterable[str]) -> Rows:
    for path in paths:
        read = reader_of(path)
        assert read is not None
        yield from read(Path(path))
