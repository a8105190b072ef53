"""Records from files, folders and data sets: (where, record) one by one, before anything is said about fields."""

import logging
import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from data_modules.files.delimited import comma_separated, tab_separated
from lit_longpo.errors import InputError, MissingFileError, error_text
from lit_longpo.files.checksums import refuse_changed
from lit_longpo.files.folders import nearby
from lit_longpo.files.json_files import Rows, json_lines, json_list
from lit_longpo.files.parquet_files import parquet_rows
from lit_longpo.files.strict_json import RecordError
from lit_longpo.log_once import log_once

log = logging.getLogger(__name__)

BUILD_FROM_TEXT = "`python -m lit_longpo build --config build/longpo_chat --source.path FILE_OR_FOLDER`"
_OTHERS_RECORDS = (".ndjson", ".arrow", ".xlsx", ".zip", ".tar", ".gz", ".xz", ".bz2", ".zst")  # we do not read them
_PAPERS = ("README", "LICENSE", "LICENCE", "COPYING", "NOTICE", "CITATION", "CHANGELOG")  # LICENSE, license.txt, ...
_PARTS = "[+"  # in the name of a split: a part of it, or several
_SECONDS = 10.0  # for one answer of the hub


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
        check_splits(source, split, _split_setting(argument), "write that part into a file of its own")
    rows = _rows(source, split, argument)
    first = next(rows, None)
    if first is None:
        raise RecordError.at(source, "file", "at least one record", "an empty file")
    yield first
    yield from rows


def check_splits(source: str, split: str, setting: str, instead: str) -> None:
    """Refuse a split of a file, or of a table that `Dataset.save_to_disk` wrote: all of it would be read."""
    if Path(source).is_file() or _is_saved_table(Path(source)):
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
    return _reader_of(source) is not None or Path(source).exists()


def parquet(path: str | Path) -> Rows:
    """The rows of a table; what is null in it is not there."""
    return ((f"{path}: row {number}", table_row(row)) for number, row in enumerate(parquet_rows(path), 1))


def table_row(row: object) -> object:
    """A table's row as JSON would have it: an absent field is stored as null."""
    return {name: value for name, value in row.items() if value is not None} if isinstance(row, dict) else row


_READERS: dict[str, Callable[[Path], Rows]] = {
    ".jsonl": json_lines,
    ".json": json_list,
    ".jsonl.gz": json_lines,
    ".json.gz": json_list,
    ".parquet": parquet,
    ".csv": comma_separated,
    ".tsv": tab_separated,
}


def _reader_of(path: str) -> Callable[[Path], Rows] | None:
    return next((read for suffix, read in _READERS.items() if path.endswith(suffix)), None)


def _rows(source: str, split: str, argument: str) -> Rows:
    read = _reader_of(source)
    if read is not None and not Path(source).is_dir():
        return read(_as_written(existing_file(source, argument, "preference pairs")))
    if Path(source).is_file():
        raise InputError(
            f"expected a file of {', '.join(_READERS)}, got {source}; write its records into one of those, or make "
            f"pairs of plain text ({BUILD_FROM_TEXT}), and set `{argument}`"
        )
    if _is_saved(Path(source)):
        return _table(_saved(source, split, argument), f"{source} [{split}]")
    return _folder(source, split, argument) if Path(source).is_dir() else _hub(source, split, argument)


def _is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` wrote the folder; a file of that name beside others may be anybody's."""
    return _is_saved_table(folder) or (folder / "dataset_dict.json").is_file()


def _is_saved_table(folder: Path) -> bool:
    return (folder / "state.json").is_file() and any(folder.glob("*.arrow"))


def _saved(folder: str, split: str, argument: str) -> Any:
    """What `save_to_disk` wrote; of a `DatasetDict`, one split."""
    import datasets

    try:
        saved = datasets.load_from_disk(folder)
    except Exception as error:  # as below: any of them means that nothing was loaded
        raise _not_loaded(folder, split, argument, error) from error
    if isinstance(saved, datasets.Dataset):
        return saved
    return saved[_known_split(split, list(saved), folder, argument)]


def _folder(source: str, split: str, argument: str) -> Rows:
    """The files of a folder that belong to a split, by the rules of `datasets`, read as strictly as any file."""
    import datasets

    try:
        files = datasets.load_dataset_builder(_with_a_name(source)).config.data_files
    except Exception as error:  # it raises a dozen types; all mean that it found no data files
        raise _not_loaded(source, split, argument, error) from error
    if files is None or any(sign in split for sign in _PARTS):  # a part of a split, or several
        return _hub(source, split, argument)
    found = files[_known_split(split, list(files), source, argument)]
    # `datasets` makes them absolute; an id must not depend on where the folder lies.
    paths = [os.path.join(source, os.path.relpath(path, Path(source).resolve())) for path in found]
    paths = [path for path in paths if not _is_about_the_set(Path(path).name)]
    if not any(_reader_of(path) for path in paths):
        return _hub(source, split, argument)
    if unread := [path for path in paths if not _reader_of(path)]:
        raise InputError(
            f"expected files of {', '.join(_READERS)} in {source}, got {unread[0]} among them; take it out of the "
            f"folder, or set `{argument}` to one file"
        )
    if names := _left_out(source, [path for of_split in files.values() for path in of_split]):
        log_once(
            log.warning,
            "%s: not read, because their names or kinds belong to no split: %s; give the files of one split the same "
            "beginning (train-1.jsonl, train-2.jsonl) and the same kind",
            *(source, ", ".join(names)),
        )
    return _chained(paths)


def _with_a_name(source: str) -> str:
    """The folder from the root on: `datasets` takes a set's name from its path, and "." has none."""
    return str(Path(source).resolve()) if Path(source).exists() else source


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
    readable = _reader_of(name.name.lower()) is not None or name.suffix.lower() in _OTHERS_RECORDS
    return readable and not _is_about_the_set(name.name)


def _is_about_the_set(name: str) -> bool:
    """Whether a file of this name belongs to a data set's folder without being data: citation.jsonl is data."""
    from datasets.data_files import FILES_TO_IGNORE

    is_paper = name.partition(".")[0].upper() in _PAPERS and _reader_of(name) is None
    return is_paper or name in (*FILES_TO_IGNORE, "state.json")


def _chained(paths: Iterable[str]) -> Rows:
    for path in paths:
        read = _reader_of(path)
        assert read is not None
        yield from read(Path(path))


def hub_table(source: str, split: str, argument: str) -> Any:
    """A `datasets.Dataset`, mapped from its files.

    Args:
        source: a name, with `:` and the configuration behind it if there are several; or a folder.
        split: which part.
        argument: name of the setting, for errors.

    Raises:
        MissingFileError: it cannot be loaded.
    """
    import datasets

    name, _, configuration = (source, "", "") if Path(source).exists() else source.partition(":")
    try:
        with _cache_alone(name):
            return datasets.load_dataset(_with_a_name(name), configuration or None, split=split)
    except Exception as error:  # the hub client raises a dozen types; all mean that nothing was loaded
        raise _not_loaded(source, split, argument, error) from error


def _cache_alone(name: str) -> AbstractContextManager[object]:
    """Where the hub cannot be reached: it would be tried again and again for half a minute before the cache is."""
    from datasets import config

    offline = config.HF_HUB_OFFLINE or not (Path(name).exists() or _hub_answers(name))
    return patch.object(config, "HF_HUB_OFFLINE", offline)


def _hub_answers(name: str) -> bool:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        get_hf_file_metadata(hf_hub_url(name, "README.md", repo_type="dataset"), timeout=_SECONDS)
    except (HfHubHTTPError, HFValidationError):  # what `datasets` will say better
        return True
    except Exception:  # of whichever transport the hub's client has
        return False
    return True


def _hub(source: str, split: str, argument: str) -> Rows:
    return _table(hub_table(source, split, argument), f"{source} [{split}]")


def _table(table: Any, name: str) -> Rows:
    plain = table.with_format(None)  # of a saved one that has been told to give tensors, or some columns
    return ((f"{name}: row {number}", table_row(row)) for number, row in enumerate(plain, 1))


def _known_split(split: str, splits: list[Any], source: str, argument: str) -> str:
    if split not in splits:
        names = ", ".join(map(str, splits))
        raise InputError(f"expected a split of {source!r} ({names}), got {split!r}; set `{_split_setting(argument)}`")
    return split


def _split_setting(argument: str) -> str:
    """`data.init_args.val_split` beside `data.init_args.val_path`."""
    return f"{argument.removesuffix('path')}split"


def _not_loaded(source: str, split: str, argument: str, error: Exception) -> MissingFileError:
    return MissingFileError(
        f"expected a file ({', '.join(_READERS)}), a folder or the name of a data set (NAME, NAME:CONFIGURATION) "
        f"with a split {split!r}, got {source!r}, which could not be loaded "
        f"({type(error).__name__}: {error_text(error)}); set `{argument}`{nearby(source)}"
    )
