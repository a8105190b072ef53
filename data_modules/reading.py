"""Pairs of a source, and those that a label lets pass."""

import logging
from collections.abc import Sequence
from typing import Literal

from data_modules.formats.reader import RecordReader
from data_modules.record_files import existing_file as existing_file
from data_modules.record_files import read_records
from data_modules.records import PreferencePair
from data_modules.splitting import share_of as share_of
from lit_longpo.errors import InputError

log = logging.getLogger(__name__)

Keep = Literal["all", "not_worse", "verified"]


def load_pairs(source: str, split: str, argument: str, reader: RecordReader | None = None) -> list[PreferencePair]:
    """Validated pairs from files, a folder or a data set.

    Args:
        source: as `read_records` takes it.
        split: which split of the data set; files have none.
        argument: name of the setting, for errors.
        reader: what the records look like; `None` looks at the first one.

    Raises:
        FileNotFoundError: there is no such file or data set.
        RecordError: a record is malformed.
    """
    return list((reader or RecordReader()).pairs(read_records(source, split, argument), source))


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
