"""Rows of a Parquet file, one after the other; what is wrong with it is said as of any file of records."""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lit_longpo.errors import error_text
from lit_longpo.files.strict_json import RecordError

Decode = Callable[[Any], Any]


def parquet_rows(path: str | Path) -> Iterator[Any]:
    """Each row as a dictionary, an absent field as `None`.

    Values of Arrow's JSON type, which `datasets` writes where a field is now a text and now a list, are decoded
    (datasets#8343): as they are stored, a text has its quotation marks and escapes.

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
        decode = _decoder(pyarrow.struct(file.schema_arrow))
        batches = file.iter_batches(batch_size=16)
        while True:
            try:
                batch = next(batches, None)
                rows = None if batch is None else [_decoded(decode, row) for row in batch.to_pylist()]
            except broken as error:
                raise _broken(path, error) from error
            if rows is None:
                return
            yield from rows


def _decoder(kind: Any) -> Decode | None:
    """What makes of a value of an Arrow type what the JSON inside says; `None` if there is none inside."""
    import pyarrow

    types = pyarrow.types
    if isinstance(kind, getattr(pyarrow, "JsonType", ())):
        return json.loads
    if types.is_struct(kind):
        parts = {field.name: decode for field in kind if (decode := _decoder(field.type)) is not None}
        return partial(_fields_decoded, parts) if parts else None
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        decode = _decoder(kind.value_type)
        return None if decode is None else partial(_items_decoded, decode)
    return None


def _fields_decoded(parts: Mapping[str, Decode], row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _decoded(parts.get(name), value) for name, value in row.items()}


def _items_decoded(decode: Decode, items: list[Any]) -> list[Any]:
    return [_decoded(decode, item) for item in items]


def _decoded(decode: Decode | None, value: Any) -> Any:
    return value if decode is None or value is None else decode(value)


def _broken(path: str | Path, error: BaseException) -> RecordError:
    return RecordError.at(str(path), "file", "a whole Parquet file", error_text(error))
