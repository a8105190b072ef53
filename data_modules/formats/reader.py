"""Picks the layout of a file's records by the first one, and reads all of its pairs."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from data_modules.fields import NUMBERS
from data_modules.formats.base import Record, RecordFormat
from data_modules.formats.compared import Compared
from data_modules.formats.conversations import OpenAIPreference, Transcripts
from data_modules.formats.hints import expected_instead
from data_modules.formats.ids import RepeatedIds, SeenIds
from data_modules.formats.llama_factory import Alpaca, ShareGPT
from data_modules.formats.own import OwnPairs
from data_modules.formats.parser import ExtraColumns, PairParser, json_object, renamed
from data_modules.formats.scored import OpenRLHF, Tulu, UltraFeedback
from data_modules.formats.trl import Messages, TRLCompletion, TRLPreference
from data_modules.records import PreferencePair
from lit_longpo.errors import InputError, did_you_mean
from lit_longpo.files.strict_json import RecordError

log = logging.getLogger(__name__)

# In the order in which they are tried: what has more telling names comes first.
FORMATS: dict[str, RecordFormat] = {
    layout.name: layout
    for layout in (
        OwnPairs(),
        Alpaca(),
        ShareGPT(),
        Transcripts(),
        OpenAIPreference(),
        Compared(),
        UltraFeedback(),
        Tulu(),
        OpenRLHF(),
        TRLPreference(),
        TRLCompletion(),
        Messages(),
    )
}


@dataclass(frozen=True)
class RecordReader:
    """Reads the records of files as pairs.

    Args:
        format: name of a layout, or one of your own; "auto" looks at the first record.
        columns: our name -> the data's name, for columns that are called something else.
        extra_columns: columns that the layout does not know are an "error"; "ignore" names them in the log once, and
            in `unread`.
        options: how the error about an unknown layout calls `format` and `columns`; `None` where neither can be set.

    Raises:
        InputError: there is no such format, or no format has a field of a name in `columns`.
    """

    format: RecordFormat | str = "auto"
    columns: Mapping[str, str] = field(default_factory=dict)
    extra_columns: ExtraColumns = "error"
    options: str | None = field(default="data.init_args", repr=False, compare=False)
    _told: set[str] = field(default_factory=set, init=False, repr=False, compare=False)  # files are read several times
    _unread: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        layouts = FORMATS.values() if isinstance(self.format, str) else [self.format]
        known = sorted({name for layout in layouts for name in (*layout.fields, *NUMBERS)})
        for name in self.columns:
            if name not in known:
                raise InputError(
                    f"expected our names first in `data.init_args.columns`, of {', '.join(known)}"
                    f"{did_you_mean(name, known)}, got {name!r}; for example {{long_context: document}}"
                )
        if isinstance(self.format, str) and self.format not in (*FORMATS, "auto"):
            raise InputError(f"expected `data.init_args.format` of auto, {', '.join(FORMATS)}, got {self.format!r}")

    @property
    def unread(self) -> tuple[str, ...]:
        """Columns of the records so far that nothing reads, by `extra_columns: ignore`."""
        return tuple(sorted(self._unread))

    def pairs(self, rows: Iterable[tuple[str, object]], source: str = "") -> Iterator[PreferencePair]:
        """Pairs of (where, record) rows, one by one, each with an id of its own.

        Args:
            rows: as `read_records` yields them.
            source: what they come from; the ids of records without one are relative to its folder.

        Raises:
            RecordError: a record is malformed, or one of ours has an id that was seen before.
        """
        parser, seen, repeated, notes = None, SeenIds(), RepeatedIds(), Counter[str]()
        absent = set(self.columns.values())
        for where, record in rows:
            parser = parser or self.parser(record, where, source)
            absent.difference_update(known := json_object(record, where))
            under_our_names = renamed(known, self.columns)
            pair, place = self._pair(parser, where, under_our_names), parser.place(where)
            if parser.layout.unique_ids:
                seen.add(pair.id, where)
            elif pair.id != place:
                pair = replace(pair, id=repeated.name(pair.id, place))
            notes.update(parser.notes(under_our_names))
            yield pair.read_from(where)
        seen.check(source)
        if new := sorted(absent - self._told):
            log.warning("%s: `columns` names columns that no record has: %s", source, ", ".join(new))
            self._told.update(new)
        for note in notes.keys() - self._told:
            log.warning("%s: in %d records %s", source, notes[note], note)
            self._told.add(note)

    def _pair(self, parser: PairParser, where: str, record: Record) -> PreferencePair:
        """The pair of a record under our names, by the first record's layout."""
        other = self._matching(record) if self.format == "auto" else None
        if other is None or other.name == parser.layout.name:
            return parser(where, record)
        said = (
            f"; the first record has another layout ({parser.layout.name}; this one seems to be {other.name}), which "
            "holds for all: part the file by layouts, and mix them with MixtureDataModule"
        )
        try:
            pair = parser(where, record)
        except RecordError as error:
            raise RecordError(f"{error}{said}") from error
        if parser.by(other).reads_otherwise(pair, where, record):
            refused = RecordError.at(where, "record", f"the layout {parser.layout.name}", other.name)
            raise RecordError(f"{refused}{said}")
        return pair

    def _matching(self, record: Record) -> RecordFormat | None:
        return next((layout for layout in FORMATS.values() if layout.matches(record)), None)

    def parser(self, record: object, where: str, source: str = "") -> PairParser:
        """What reads all records of a file, chosen by its first one.

        Raises:
            RecordError: no layout matches it.
        """
        under_our_names = renamed(json_object(record, where), self.columns)
        layout = self._layout(under_our_names, where)
        layout = OwnPairs(mapped=True) if type(layout) is OwnPairs and self.columns else layout
        return PairParser(layout, self.columns, self.extra_columns, _folder(source), self._unread)

    def _layout(self, record: Record, where: str) -> RecordFormat:
        if isinstance(self.format, RecordFormat):
            return self.format
        if self.format != "auto":
            return FORMATS[self.format]
        layout = self._matching(record)
        if layout is None:
            raise RecordError.at(where, "record", expected_instead(record, FORMATS, self.options), list(record))
        return layout


def _folder(source: str) -> str:
    """What stands in front of a file's own name in `where`."""
    return source[: source.rstrip("/").rfind("/") + 1]
