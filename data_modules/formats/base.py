"""The interface of every layout of records, and helpers that layouts share."""

import hashlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from data_modules.fields import NUMBERS, check_rejected
from data_modules.formats.hints import as_yaml, mapping_of_extras
from data_modules.messages import Conversation, Message, conversation
from data_modules.records import PreferencePair
from lit_longpo.errors import did_you_mean
from lit_longpo.files.strict_json import RecordError, check_text

Record = Mapping[str, Any]

_INDEX = "__index_level_0__"  # pandas puts its row numbers into a table


class RecordFormat(ABC):
    """One layout: how its records are known and what pair each becomes.

    A subclass of your own is named in YAML by `format: {class_path: my_package.MyFormat}`.

    Attributes:
        name: what `data.init_args.format` calls it.
        fields: names that are read.
        unique_ids: whether an id that comes twice is an error; else it gets the record's place behind it.
        companions: names that such data sets have besides and that mean nothing here; they are no extra columns.
    """

    name: ClassVar[str]
    fields: ClassVar[tuple[str, ...]]
    companions: ClassVar[tuple[str, ...]] = ()
    unique_ids: ClassVar[bool] = False

    @abstractmethod
    def matches(self, record: Record) -> bool:
        """Whether a record looks like this layout; asked of the first one only."""

    @abstractmethod
    def pair(self, record: Record, where: str, name: str) -> PreferencePair:
        """The record's pair.

        Args:
            record: names of `fields` and `companions` only.
            where: file and line, for errors.
            name: id of a record that has none.

        Raises:
            RecordError: a field is missing, ill-typed, empty or contradicts another one.
        """

    def __repr__(self) -> str:
        # Stored tokens are found by this text: it holds no address, but a hash of others' code, which has no version.
        kind = type(self)
        code = "" if kind.__module__.startswith("data_modules.") else _hash_of_file(kind.__module__)
        return f"{kind.__module__}.{kind.__qualname__}({vars(self)}){code}"

    def extras(self, record: Record) -> list[str]:
        """Names in a record that the layout does not know."""
        known = {*self.fields, *self.companions, *NUMBERS, _INDEX}
        return [field for field in record if field not in known]

    def note(self, record: Record) -> str:
        """What is odd about a record although it makes a pair; empty if nothing is."""
        return ""

    def unknown(self, fields: list[str], where: str) -> RecordError:
        """The error for extra names, one or more."""
        mapping = mapping_of_extras(fields, self.fields)
        meant = f", `data.init_args.columns: {as_yaml(mapping)}`" if mapping else ""
        known = ", ".join(self.fields) + did_you_mean(fields[0], self.fields)
        expected = f"one of {known}{meant}, or `data.init_args.extra_columns: ignore`"
        return RecordError.at(where, f"field {fields[0]!r}", expected, fields if len(fields) > 1 else fields[0])


def _hash_of_file(module: str) -> str:
    """Of a module's code; nothing of one that lies in no file."""
    path = getattr(sys.modules.get(module), "__file__", None)
    return f" as of {hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]}" if path else ""


def required(record: Record, field: str, where: str) -> Any:
    """A field's value.

    Raises:
        RecordError: there is none.
    """
    if field not in record:
        raise RecordError.at(where, f"field {field!r}", "this required field", sorted(map(str, record)))
    return record[field]


def record_id(record: Record, field: str, where: str, name: str) -> str:
    """A record's own id, text or whole number; else `name`."""
    value = record.get(field)
    if value is None:
        return name
    return str(value) if type(value) is int else check_text(value, field, where)


def conversation_pair(
    id: str, talk: Conversation, chosen: str, rejected: tuple[str, ...], where: str, short: str = ""
) -> PreferencePair:
    """A pair whose context is a whole message, the question somewhere in it; and so is the short one, if there is one.

    Raises:
        RecordError: chosen is rejected, too.
    """
    if rejected:
        check_rejected(rejected, chosen, "rejected", where)
    return PreferencePair(
        id=id,
        question="",
        short_context=short,
        long_context=talk.context,
        chosen=chosen,
        rejected=rejected,
        system=talk.system,
        history=talk.history,
        followup=talk.followup,
    )


def asked(messages: tuple[Message, ...], system: str | None, field: str, where: str) -> Conversation:
    """The conversation of messages and a column with the system text.

    Raises:
        RecordError: they are no conversation that waits for an answer, or have another system message.
    """
    talk = conversation(messages, field, where)
    if system is None or talk.system == system:
        return talk
    if talk.system is not None:
        raise RecordError.at(where, "field 'system'", f"the system message {talk.system!r:.60} or none", system)
    return replace(talk, system=system)
