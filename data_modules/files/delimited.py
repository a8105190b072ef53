"""Reads CSV and TSV files: a line of column names, then one line per record."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from lit_longpo.files.json_files import Rows
from lit_longpo.files.strict_json import RecordError, decode_json

_LONGEST = 2**31 - 1  # characters of a cell; Python's own limit is 131072
_TRUTHS = {"true": True, "false": False}


class Cell(str):
    """The text of a cell, which may stand for a number, a truth value, JSON, or a list of one text."""

    __slots__ = ()


def as_number(value: object) -> object:
    """The number that a cell writes; a cell that writes none, and whatever is no cell, as it is."""
    try:
        return float(value) if isinstance(value, Cell) else value
    except ValueError:
        return value


def as_truth(value: object) -> object:
    """The truth value that a cell writes, as spreadsheets and Python do; anything else as it is."""
    return _TRUTHS.get(value.strip().lower(), value) if isinstance(value, Cell) else value


def cell_json(value: object, where: str) -> object:
    """What a cell writes as JSON, where no text is wanted; anything else as it is.

    Raises:
        RecordError: the cell is no JSON.
    """
    return decode_json(value, where) if isinstance(value, Cell) else value


def comma_separated(path: str | Path) -> Rows:
    """The rows of a `.csv` file; an empty cell is not there.

    Where the decimal sign is a comma, spreadsheets part cells by semicolons; the line of names shows it.
    """
    with open(path, "rb") as file:
        names = file.readline()
    return _rows(path, ";" if b";" in names and b"," not in names else ",")


def tab_separated(path: str | Path) -> Rows:
    """The rows of a `.tsv` file; an empty cell is not there."""
    return _rows(path, "\t")


def _rows(path: str | Path, delimiter: str) -> Rows:
    csv.field_size_limit(_LONGEST)
    with open(path, encoding="utf-8-sig", newline="") as file:
        lines = _lines(file, path, delimiter)
        where, names = next(lines, (str(path), []))
        _check_names(names, where)
        for where, cells in lines:
            if len(cells) != len(names):
                raise RecordError.at(where, "record", f"{len(names)} cells ({', '.join(names)})", cells)
            yield where, {name: Cell(cell) for name, cell in zip(names, cells, strict=True) if cell}


def _check_names(names: list[str], where: str) -> None:
    """Refuse a first line that does not name the columns."""
    first = "".join(names[:1])
    if "\t" in first:
        raise RecordError.at(where, "first line", "no tabs between names, or a file name that ends in .tsv", names)
    if first.startswith("sep="):
        raise RecordError.at(where, "first line", "names of columns; only spreadsheets read this line", names)
    if not all(names) or len(set(names)) < len(names):
        raise RecordError.at(where, "first line", "a name for each column, each once", names)


def _lines(file: IO[str], path: str | Path, delimiter: str) -> Iterator[tuple[str, list[str]]]:
    """Cells of each record, with the line it begins on; empty lines at the end are nothing."""
    reader, start, blank = csv.reader(file, delimiter=delimiter, strict=True), 1, None
    try:
        for cells in reader:
            if blank is not None and cells:
                raise RecordError.at(f"{path}:{blank}", "record", "cells in every line but the last", "")
            if cells:
                yield f"{path}:{start}", cells
            else:
                blank = blank or start
            start = reader.line_num + 1
    except csv.Error as error:
        expected = 'cells with " around the whole of each or nowhere, those inside doubled'
        raise RecordError.at(f"{path}:{start}", "record", expected, str(error)) from error
    except UnicodeDecodeError as error:
        expected = f"UTF-8 text ({error.reason}); save it as CSV UTF-8"
        raise RecordError.at(f"{path}:{start}", "record", expected, error.object[error.start : error.end]) from error
