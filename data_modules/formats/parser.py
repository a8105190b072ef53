"""Turns the records of one file, whose layout is known, into pairs: columns, checks, errors in the data's own names."""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from data_modules.fields import numbers_of, refuse_file_name
from data_modules.files.delimited import as_number, as_truth
from data_modules.formats.base import Record, RecordFormat
from data_modules.formats.prints import refuse_printed
from data_modules.messages import without_notes
from data_modules.records import PreferencePair
from lit_longpo.files.strict_json import RecordError

log = logging.getLogger(__name__)

ExtraColumns = Literal["error", "ignore"]

_WANTED = ("label", "kto_tag")  # of KTO data (TRL, ms-swift, LLaMA-Factory): whether the answer is wanted
_BESIDE_TEXT = ("tools", "functions", *("image", "images", "video", "videos", "audio", "audios"))
_OPTIONS = "chat_template_kwargs"  # of TRL: options of the chat template, each record's own
_NOTHING: tuple[object, ...] = (None, "", "[]", [], {})  # of these: as absent, which tables cannot be
_SCORE = re.compile(r"chosen.*(score|rating|reward)|(score|rating|reward).*chosen")


def _lower_scores(record: Record) -> list[str]:
    """Notes on columns that no layout knows and that are scores of the two answers by their names: chosen has less."""
    pairs = [(name, name.replace("chosen", "rejected")) for name in record if _SCORE.search(name)]
    numbers = {name: as_number(record.get(name)) for names in pairs for name in names}
    kept = {name: value for name, value in numbers.items() if isinstance(value, int | float)}
    return [
        f"`{first}` is below `{second}`: if these are scores, chosen and rejected are the wrong way round"
        for first, second in pairs
        if {first, second} <= kept.keys() and kept[first] < kept[second]
    ]


class PairParser:
    """Turns the records of one file into pairs; call it with a record's place and the record under our names.

    Args:
        layout: the records' layout under our names.
        columns: our name -> the data's name.
        extra_columns: see `RecordReader`.
        folder: removed from the front of a record's place where that becomes its id.
        told: columns that the log has named already; extended here.
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
            refuse_printed(pair, where)
            for name in ("long_context", "short_context"):
                refuse_file_name(getattr(pair, name), name, where)
            return replace(pair, **numbers_of(known, where))
        except RecordError as error:
            raise _in_their_words(error, self.columns) from error

    def notes(self, record: Record) -> list[str]:
        """What is odd about a record although it makes a pair; the reader counts each note and logs it once."""
        return [note for note in (self.layout.note(record), *_lower_scores(record)) if note]

    def by(self, layout: RecordFormat) -> "PairParser":
        """The same parser for another layout."""
        return PairParser(layout, self.columns, self.extra_columns, self.folder, self._told)

    def reads_otherwise(self, pair: PreferencePair, where: str, record: Record) -> bool:
        """Whether this parser can read the record, and makes another pair of it; ids are not compared."""
        try:
            own = self(where, record)
        except RecordError:
            return False
        return own != replace(pair, id=own.id)

    def place(self, where: str) -> str:
        """The id of a record that has none: its place within the folder."""
        return where.removeprefix(self.folder)

    def _without_extras(self, record: Record, where: str) -> Record:
        telling = (*_BESIDE_TEXT, _OPTIONS)
        record = {name: value for name, value in record.items() if name not in telling or value not in _NOTHING}
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
    """Refuse an unread column that changes what the record means, even under `extra_columns: ignore`."""
    if name in _WANTED and as_truth(value) is False:
        expected = "true, or records without it: nothing trains on an answer that is only unwanted"
        raise RecordError.at(where, f"field {name!r}", expected, value)
    if name in _BESIDE_TEXT:
        expected = "nothing: prompts are text without tools and pictures; take the column out if answers need none"
        raise RecordError.at(where, f"field {name!r}", expected, value)
    if name == _OPTIONS:
        options = json.dumps(value, ensure_ascii=False, default=str)
        expected = (
            "nothing: all records share the chat template's options; take the column out, and type "
            f"--policy.template.options '{options}' if all records have these"
        )
        raise RecordError.at(where, f"field {name!r}", expected, value)


def json_object(record: object, where: str) -> dict[str, Any]:
    """The record, if it is a JSON object.

    Raises:
        RecordError: it is another value.
    """
    if not isinstance(record, dict):
        raise RecordError.at(where, "record", "a JSON object", record)
    return record


def renamed(record: dict[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """The record with mapped columns under our names; a column that had such a name becomes `<name> (theirs)`.

    A mapped column may be absent, as null fields of tables are: the layout knows which ones it needs.
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
