"""Rows of a Parquet file, one after the other; what is wrong with it is said as of any file of records."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lit_longpo.files.strict_json import RecordError


def parquet_rows(path: str | Path) -> Iterator[Any]:
    """Each row as a dictionary, an absent field as `None`.

    Raises:
        RecordError: it is no whole Parquet file, or two of its columns have one name.
    """
    import pyarrow.parquet  # with pandas a second that no other file needs

    # Whatever is broken in it: damaged pages are the system's errors to pyarrow, texts that are none are Python's.
    broken = (pyarrow.ArrowException, OSError, ValueError, OverflowError)
    try:
        file = pyarrow.parquet.ParquetFile(path)
    except broken as error:
        raise _broken(path, error) from error
    with file:
        names = list(file.schema_arrow.names)
        if len(set(names)) < len(names):  # pyarrow would give the last one's values
            raise RecordError.at(str(path), "file", "a name for each column, each once", names)
        batches = file.iter_batches(batch_size=16)
        while True:
            try:
                batch = next(batches, None)
                rows = None if batch is None else batch.to_pylist()
            except broken as error:
                raise _broken(path, error) from error
            if rows is None:
                return
            yield from rows


def _broken(path: str | Path, error: BaseException) -> RecordError:
    return RecordError.at(str(path), "file", "a whole Parquet file", " ".join(str(error).split()))
