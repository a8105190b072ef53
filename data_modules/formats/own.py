"""The project's own records: the fields of `PreferencePair`."""

from collections.abc import Mapping
from typing import Any

from data_modules.fields import check_one_text
from data_modules.files.delimited import Cell, as_truth, cell_json
from data_modules.formats.base import Record, RecordFormat, record_id
from data_modules.records import NAMES, PreferencePair, parse_pair

_LISTS = ("rejected", "answers")
_STRUCTURES = ("supporting", "turns", "history", "followup")


class OwnPairs(RecordFormat):
    """Context and question apart: `question`, `long_context`, `short_context`, `chosen`, `rejected` and more.

    Args:
        mapped: whether columns are renamed; then one text is a list of one, as it is in a table of texts.
    """

    name = "pairs"
    fields = NAMES
    unique_ids = True

    def __init__(self, *, mapped: bool = False) -> None:
        self.mapped = mapped

    def matches(self, record: Record) -> bool:
        """One of the contexts."""
        return "long_context" in record or "short_context" in record

    def pair(self, record: Record, where: str, name: str) -> PreferencePair:
        """See `RecordFormat`."""
        known = {**_present(_decoded(record, where)), "id": record_id(record, "id", where, name)}
        for field in _LISTS:
            check_one_text(known.get(field), known.get("chosen"), field, where)
        taken = str if self.mapped else Cell  # for a list of one
        lists = {field: [known[field]] for field in _LISTS if isinstance(known.get(field), taken)}
        return parse_pair({**known, **lists}, where)


def _decoded(record: Record, where: str) -> Record:
    """A record with what cells of a table write: truth values, and JSON where no text could be meant."""
    written = {field: cell_json(record[field], f"{where}: field {field!r}") for field in _STRUCTURES if field in record}
    truths = {"verified": as_truth(record["verified"])} if "verified" in record else {}
    return {**record, **written, **truths}


def _present(value: Any) -> Any:
    """A record without what is null at any depth: tables, and JSON that is made of them, write absent fields so."""
    if isinstance(value, Mapping):
        return {name: _present(item) for name, item in value.items() if item is not None}
    return [_present(item) for item in value] if isinstance(value, list | tuple) else value
