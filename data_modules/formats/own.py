"""The project's own records: the fields of `PreferencePair`."""

from data_modules.formats.base import Record, RecordFormat
from data_modules.records import NAMES, PreferencePair, parse_pair

_LISTS = ("rejected", "answers")


class OwnPairs(RecordFormat):
    """Context and question apart: `question`, `long_context`, `short_context`, `chosen`, `rejected` and more.

    Args:
        mapped: whether columns are renamed; then one text is a list of one, too.
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
        lists = {field: [record[field]] for field in _LISTS if isinstance(record.get(field), str) and self.mapped}
        return parse_pair({**record, **lists}, where, name)
