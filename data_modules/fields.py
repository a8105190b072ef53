"""Fields of a stored pair, checked one by one; every error names file, line and field."""

import os.path
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_modules.files.delimited import as_number
from data_modules.messages import check_messages
from lit_longpo.errors import did_you_mean
from lit_longpo.files.answer_fields import is_bracketed, prints_texts
from lit_longpo.files.strict_json import RecordError, check_text, check_texts

Span = tuple[int, int]  # first character, and the one behind the last

NUMBERS = {"weight": 1.0, "margin": 0.0}  # and what they are in a record that does not say
_LARGEST = 1e6
_LONGEST_NAME = 255  # characters of a file's name; a context says more


def check_names(value: Mapping[Any, object], where: str, names: tuple[str, ...], optional: set[str]) -> None:
    """Refuse a record with unknown names, or without the required ones."""
    for name in value:
        if name not in names:
            expected = f"one of {', '.join(names)}{did_you_mean(name, names)}"
            raise RecordError.at(where, f"field {name!r}", expected, name)
    for name in names:
        if name not in value and name not in optional:
            raise RecordError.at(where, f"field {name!r}", "this required field", sorted(map(str, value)))


def check_rejected(value: object, chosen: str, name: str, where: str) -> tuple[str, ...]:
    """The rejected answers, if there are some and none is the chosen one.

    Raises:
        RecordError: it is otherwise.
    """
    rejected = check_texts(value, name, where)
    if not rejected:
        raise RecordError.at(where, f"field {name!r}", "at least one rejected answer", [])
    if chosen.strip() in (text.strip() for text in rejected):
        raise RecordError.at(where, "field 'chosen'", f"an answer that is not among `{name}`", chosen)
    return rejected


def check_one_text(value: object, beside: object, field: str, where: str) -> None:
    """Refuse a text that prints a list of texts, as tables have it where there was the list.

    Args:
        value: what may be such a text; a list that holds it is one of answers that look so.
        beside: another answer of the record; if it is a list, too, of whatever, answers are lists and these are texts.
        field: name, for the error.
        where: file and line.
    """
    if not isinstance(value, str) or not prints_texts(value):
        return
    if not isinstance(beside, str) or not is_bracketed(beside):
        expected = "one text, or a list stored as a list (.jsonl, .parquet; the only one in a list, if it is an answer)"
        raise RecordError.at(where, f"field {field!r}", expected, value)


def check_spans(value: object, length: int, where: str) -> tuple[Span, ...]:
    """Character spans of the supporting passages in a long context of this length.

    Raises:
        RecordError: they are none.
    """
    expected = f"ascending [start, end] pairs inside the {length} characters of `long_context`"
    if not isinstance(value, list | tuple):
        raise RecordError.at(where, "field 'supporting'", expected, value)
    spans, last = list[Span](), 0
    for item in value:
        if not isinstance(item, list | tuple) or len(item) != 2 or any(type(end) is not int for end in item):
            raise RecordError.at(where, "field 'supporting'", expected, item)
        start, end = item
        if not last <= start < end <= length:
            raise RecordError.at(where, "field 'supporting'", expected, item)
        spans.append((start, end))
        last = end
    return tuple(spans)


def numbers_of(record: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A record's `weight` and `margin`, which every format may have.

    Raises:
        RecordError: one is no number, or out of range.
    """
    lowest = {"weight": 0.0, "margin": -_LARGEST}
    return {name: _number(record, name, where, above=above) for name, above in lowest.items()}


def _number(value: Mapping[str, object], name: str, where: str, above: float) -> float:
    """A number above a bound; tables store an absent one as null."""
    number = as_number(value.get(name))
    if number is None:
        return NUMBERS[name]
    if isinstance(number, bool) or not isinstance(number, int | float) or not above < number <= _LARGEST:
        raise RecordError.at(where, f"field {name!r}", f"a number above {above:g} and of at most {_LARGEST:g}", number)
    return float(number)


def optional_text(record: Mapping[str, Any], field: str, where: str) -> str | None:
    """A field's text; `None` if it is missing, null or empty, as data sets write what is not there."""
    value = record.get(field)
    return None if value is None or value == "" else check_text(value, field, where)


def said_around(record: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A record's `system`, `history` and `followup`.

    Raises:
        RecordError: one is malformed, or the user does not have the last word.
    """
    history, followup = (check_messages(record.get(name, []), name, where) for name in ("history", "followup"))
    for name, messages in (("history", history), ("followup", followup)):
        if any(message.role == "system" for message in messages):
            raise RecordError.at(where, f"field {name!r}", "messages of user and assistant", "a system message")
    if followup and followup[-1].role != "user":
        raise RecordError.at(where, "field 'followup'", "messages that end with the user's", followup[-1].content)
    return {
        "system": optional_text(record, "system", where),
        "history": history,
        "followup": followup,
    }


def refuse_file_name(text: str, field: str, where: str) -> None:
    """Refuse the name of a file that is there, from the working folder or from the folder of the record's own file."""
    if not 0 < len(text) <= _LONGEST_NAME or not text.isprintable():
        return
    # Path.is_file raises an error where a name has too many bytes, or where nobody may look.
    if any(os.path.isfile(Path(folder, text)) for folder in (".", Path(where).parent)):
        expected = "a text, not the name of a file, whose letters alone would be read: put there what the file says"
        raise RecordError.at(where, f"field {field!r}", expected, text)
