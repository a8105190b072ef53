"""Picks the layout of a file's records, renames their columns, and reads pairs one by one."""

import difflib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from data_modules.fields import NUMBERS, numbers_of
from data_modules.files.delimited import as_truth
from data_modules.files.named_files import refuse_file_name
from data_modules.formats.base import Record, RecordFormat
from data_modules.formats.compared import Compared
from data_modules.formats.conversations import OpenAIPreference, Transcripts
from data_modules.formats.hints import mapping_of, typed, without_a_choice
from data_modules.formats.ids import RepeatedIds, SeenIds
from data_modules.formats.llama_factory import Alpaca, ShareGPT
from data_modules.formats.own import OwnPairs
from data_modules.formats.prints import check_answers
from data_modules.formats.scored import OpenRLHF, Tulu, UltraFeedback
from data_modules.formats.trl import Messages, TRLCompletion, TRLPreference
from data_modules.messages import without_notes
from data_modules.records import PreferencePair
from lit_longpo.errors import InputError
from lit_longpo.files.strict_json import RecordError

log = logging.getLogger(__name__)

ExtraColumns = Literal["error", "ignore"]

_WANTED = ("label", "kto_tag")  # whether an answer is: TRL's, ms-swift's, LLaMA-Factory's for KTO
_BESIDE_TEXT = ("tools", "functions", *("image", "images", "video", "videos", "audio", "audios"))
_LONG_PROMPT = 20  # characters that no answer repeats by chance
_DOUBLED = (
    "all answers begin with the whole prompt, which is so trained twice; if they are prompt and answer in one, take "
    "the prompt out of `chosen` and `rejected`"
)

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
    """How records become pairs.

    Args:
        format: name of a layout, or one of your own; "auto" looks at the first record.
        columns: our name -> the data's name, for columns that are called something else.
        extra_columns: columns that the layout does not know are an "error"; "ignore" names them in the log once, and
            in `unread`.
        options: how the error about an unknown layout calls `format` and `columns`; `None` where neither can be set.

    Raises:
        ValueError: there is no such format, or no format has a field of a name in `columns`.
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
                close = difflib.get_close_matches(name, known, n=1)
                hint = f" (did you mean {close[0]!r}?)" if close else ""
                raise InputError(
                    f"expected our names first in `data.init_args.columns`, of {', '.join(known)}{hint}, got "
                    f"{name!r}; for example {{long_context: document}}"
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
            absent.difference_update(known := _checked(record, where))
            renamed = _renamed(known, self.columns)
            pair, place = self._pair(parser, where, renamed), parser.place(where)
            if parser.layout.unique_ids:
                seen.add(pair.id, where)
            elif pair.id != place:
                pair = replace(pair, id=repeated.name(pair.id, place))
            notes.update(parser.notes(renamed, pair))
            yield pair.read_from(where)
        seen.check(source)
        if new := sorted(absent - self._told):
            log.warning("%s: `columns` names columns that no record has: %s", source, ", ".join(new))
            self._told.update(new)
        for note in notes.keys() - self._told:
            log.warning("%s: in %d records %s", source, notes[note], note)
            self._told.add(note)

    def _pair(self, parser: "PairParser", where: str, record: Record) -> PreferencePair:
        """The pair of a record under our names, by the first record's layout.

        Raises:
            RecordError: it is malformed, or would be another pair if it came first.
        """
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

    def parser(self, record: object, where: str, source: str = "") -> "PairParser":
        """What reads all records of a file, chosen by its first one.

        Raises:
            RecordError: no layout matches it.
        """
        renamed = _renamed(_checked(record, where), self.columns)
        layout = self._layout(renamed, where)
        layout = OwnPairs(mapped=True) if type(layout) is OwnPairs and self.columns else layout
        return PairParser(layout, self.columns, self.extra_columns, _folder(source), self._unread)

    def _layout(self, record: Record, where: str) -> RecordFormat:
        if isinstance(self.format, RecordFormat):
            return self.format
        if self.format != "auto":
            return FORMATS[self.format]
        layout = self._matching(record)
        if layout is None:
            raise RecordError.at(where, "record", self._expected(record), list(record))
        return layout

    def _expected(self, record: Record) -> str:
        """What a record of no known layout should have been."""
        if {"prompt", "rejected"} <= record.keys() and not mapping_of(record):
            return "`chosen`, the better answer, beside `prompt` and `rejected`"
        inside = [name for name, value in record.items() if isinstance(value, list) and value and len(record) < 3]
        missing = without_a_choice(record)
        if inside and missing is None and isinstance(record[inside[0]][0], dict):
            if self.options is not None and "paragraphs" in record[inside[0]][0]:
                return (
                    "preference pairs, not a set of questions: make pairs of it (`python -m lit_longpo build --config "
                    "build/solopo_chat --source.paths '[FILE]'`), or train on it with --data data/musique"
                )
            return f"a list of records, or one a line, not in a list under {inside[0]!r}: take that list out of it"
        names = ", ".join(FORMATS)
        if self.options is None:
            return f"`question`, `answers` and `context`, a known set of questions, or pairs of a format ({names})"
        mapping = mapping_of(record)
        if not mapping and missing is not None:
            return missing
        example = mapping or {"prompt": "ask", "chosen": "good", "rejected": "bad"}
        return (
            f"the columns of a known format ({names}; set `{self.options}.format`), or a mapping, "
            f"{'as this seems to be' if mapping else 'for example'} `{self.options}.columns: {typed(example)}`, with "
            f"`{self.options}.extra_columns: ignore` if others are left"
        )


def _repeats_prompt(pair: PreferencePair) -> bool:
    """Whether all answers begin with the whole message before them, as texts do that hold prompt and answer."""
    last = pair.last_said
    answers = (pair.chosen, *pair.rejected)
    return not pair.question and len(last) >= _LONG_PROMPT and all(answer.startswith(last) for answer in answers)


class PairParser:
    """Reads the records of one file; call it with where a record stands and the record under our names.

    Args:
        layout: what the records look like, so named.
        columns: our name -> theirs.
        extra_columns: see `RecordReader`.
        folder: taken off the front of `where` for the id of a record without one.
        told: columns that the log has named already, which grows.
    """

    def __init__(
        self,
        layout: RecordFormat,
        columns: Mapping[str, str],
        extra_columns: ExtraColumns,
        folder: str = "",
        told: set[str] | None = None,
    ) -> None:
        self.layout, self.columns, self.extra_columns, self.folder = layout, columns, extra_columns, folder
        self._told = set[str]() if told is None else told

    def __call__(self, where: str, record: Record) -> PreferencePair:
        """The record's pair.

        Raises:
            RecordError: the record is malformed; the error has the data's names.
        """
        try:
            known = self._without_extras(record, where)
            pair = self.layout.pair(known, where, self.place(where))
            check_answers(pair, where)
            for name in ("long_context", "short_context"):
                refuse_file_name(getattr(pair, name), name, where)
            return replace(pair, **numbers_of(known, where))
        except RecordError as error:
            raise _in_their_words(error, self.columns) from error

    def notes(self, record: Record, pair: PreferencePair) -> list[str]:
        """What is odd about a record though it makes a pair, to be counted and said once."""
        said = self.layout.note(record)
        return [_DOUBLED] * _repeats_prompt(pair) + [said] * bool(said)

    def by(self, layout: RecordFormat) -> "PairParser":
        """The same reader for another layout."""
        return PairParser(layout, self.columns, self.extra_columns, self.folder, self._told)

    def reads_otherwise(self, pair: PreferencePair, where: str, record: Record) -> bool:
        """Whether it reads a record at all, and another pair than this one, whatever that is called."""
        try:
            own = self(where, record)
        except RecordError:
            return False
        return own != replace(pair, id=own.id)

    def place(self, where: str) -> str:
        """What a record without an id is called."""
        return where.removeprefix(self.folder)

    def _without_extras(self, record: Record, where: str) -> Record:
        extras = self.layout.extras(record)
        for name in extras:
            _refuse_telling(name, record[name], where)
        if self.extra_columns == "error":
            if extras:
                raise self.layout.unknown(extras, where)
            return record
        kept = {name: without_notes(value) for name, value in record.items() if name not in extras}
        notes = [f"{name}[].{note}" for name, (_, names) in kept.items() for note in names]
        if new := [name for name in (*extras, *notes) if name not in self._told]:
            log.warning("%s: columns that are ignored (`extra_columns: ignore`): %s", where, ", ".join(new))
            self._told.update(new)
        return {name: value for name, (value, _) in kept.items()}


def _refuse_telling(name: str, value: object, where: str) -> None:
    """Refuse a column that makes a record another one, whether or not others may be ignored.

    Raises:
        RecordError: it says that the answer is unwanted, or the prompt more than texts.
    """
    if name in _WANTED and as_truth(value) is False:
        expected = "true, or records without it: nothing trains on an answer that is only unwanted"
        raise RecordError.at(where, f"field {name!r}", expected, value)
    if name in _BESIDE_TEXT and value not in (None, "", "[]", [], {}):
        expected = "nothing: prompts are text without tools and pictures; take the column out if answers need none"
        raise RecordError.at(where, f"field {name!r}", expected, value)


def _checked(record: object, where: str) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise RecordError.at(where, "record", "a JSON object", record)
    return record


def _renamed(record: dict[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """The record under our names; a column in the way of one keeps its own, marked as theirs.

    A mapped column may be absent, as where a table has null: the format knows what it needs.
    """
    if not columns:
        return record
    rest = {name: value for name, value in record.items() if name not in columns.values()}
    return {f"{name} (theirs)" if name in columns else name: value for name, value in rest.items()} | {
        ours: record[theirs] for ours, theirs in columns.items() if theirs in record
    }


def _in_their_words(error: RecordError, columns: Mapping[str, str]) -> RecordError:
    message = str(error)
    for ours, theirs in columns.items():
        message = message.replace(f"field {ours!r}", f"field {theirs!r}", 1)
    return RecordError(message)


def _folder(source: str) -> str:
    """What stands in front of a file's own name in `where`."""
    return source[: source.rstrip("/").rfind("/") + 1]
