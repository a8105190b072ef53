"""Readers of files of records, by the endings of their names."""

from collections.abc import Callable
from pathlib import Path

from data_modules.files.delimited import comma_separated, tab_separated
from lit_longpo.files.json_files import Rows, json_lines, json_list
from lit_longpo.files.parquet_files import parquet_rows


def parquet(path: str | Path) -> Rows:
    """The rows of a table; what is null in it is not there."""
    return ((f"{path}: row {number}", table_row(row)) for number, row in enumerate(parquet_rows(path), 1))


def table_row(row: object) -> object:
    """A table's row as JSON would have it: an absent field is stored as null."""
    return {name: value for name, value in row.items() if value is not None} if isinstance(row, dict) else row


READERS: dict[str, Callable[[Path], Rows]] = {
    ".jsonl": json_lines,
    ".json": json_list,
    ".jsonl.gz": json_lines,
    ".json.gz": json_list,
    ".parquet": parquet,
    ".csv": comma_separated,
    ".tsv": tab_separated,
}


def reader_of(path: str) -> Callable[[Path], Rows] | None:
    """The reader of a file by its name; `None` if it has no ending of ours."""
    return next((read for suffix, read in READERS.items() if path.endswith(suffix)), None)
