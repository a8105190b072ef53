"""Where pairs are read from: JSONL and parquet files, `datasets` names."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from data_modules.records import PreferencePair, collect_pairs, read_pairs
from data_modules.splitting import share_of as share_of
from lit_longpo.errors import InputError, MissingFileError

log = logging.getLogger(__name__)

Keep = Literal["all", "not_worse", "verified"]

_SUFFIXES = (".jsonl", ".parquet")


def existing_file(path: str, argument: str, what: str) -> Path:
    """The path, if a file lies there.

    Args:
        path: as the user wrote it; relative to the working folder.
        argument: name of the setting, e.g. `data.init_args.path`.
        what: what the file should hold.

    Raises:
        FileNotFoundError: there is no such file; says where it was looked for and how to set it.
    """
    if not Path(path).is_file():
        raise MissingFileError(
            f"expected {what} at {str(Path(path).absolute())!r}, found no file there; set `{argument}` to an "
            f"existing file (in YAML, or `--{argument.replace('init_args.', '')}` on the command line)"
        )
    return Path(path)


def load_pairs(source: str, split: str, argument: str) -> list[PreferencePair]:
    """Validated pairs from a file or a data set.

    Args:
        source: a `.jsonl` or `.parquet` file, else a name or folder that `datasets.load_dataset` knows.
        split: which split of the data set; files have none.
        argument: name of the setting, for errors.

    Raises:
        FileNotFoundError: there is no such file or data set.
        RecordError: a record is malformed.
    """
    suffix = Path(source).suffix
    if suffix == ".jsonl":
        return read_pairs(existing_file(source, argument, "preference pairs"))
    if suffix == ".parquet":
        return collect_pairs(_parquet_rows(existing_file(source, argument, "preference pairs")))
    import datasets  # pandas and pyarrow come with it: a second that JSONL does not need

    try:
        table = datasets.load_dataset(source, split=split)
    except Exception as error:  # the hub client raises a dozen types; all mean that nothing was loaded
        raise MissingFileError(
            f"expected a {' or '.join(_SUFFIXES)} file or the name of a data set with a split {split!r}, got "
            f"{source!r}, which could not be loaded ({type(error).__name__}: {error}); set `{argument}`"
        ) from error
    return collect_pairs((f"{source} [{split}]: row {n}", _plain(row)) for n, row in enumerate(table, 1))


def keep_verified(pairs: Sequence[PreferencePair], keep: Keep, argument: str) -> list[PreferencePair]:
    """Pairs that the verifiers' label lets pass; how many it does not is logged.

    Args:
        pairs: with or without labels.
        keep: "all"; "not_worse", without those whose rejected answer was found better; "verified", only
            those whose chosen answer was.
        argument: name of the setting, for the error.

    Raises:
        ValueError: nothing is left.
    """
    allowed = {"all": (True, None, False), "not_worse": (True, None), "verified": (True,)}[keep]
    passing = [pair for pair in pairs if pair.verified in allowed]
    if pairs and not passing:
        raise InputError(
            f"expected pairs that pass `{argument}: {keep}`, got none of {len(pairs)}; set it to `all`, or label the "
            "pairs with `verifiers` when they are built"
        )
    if len(passing) < len(pairs):
        log.warning("%d of %d pairs left out by `%s: %s`", len(pairs) - len(passing), len(pairs), argument, keep)
    return passing


def _parquet_rows(path: Path) -> Iterator[tuple[str, object]]:
    import pyarrow.parquet

    number = 0
    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=64):
            for row in batch.to_pylist():
                number += 1
                yield f"{path}: row {number}", _plain(row)


def _plain(row: object) -> object:
    """A table row as JSON would have it: tables store an absent optional field as null."""
    if not isinstance(row, dict):
        return row
    optional = ("answers", "supporting", "turns", "weight", "margin")
    return {name: value for name, value in row.items() if value is not None or name not in optional}
