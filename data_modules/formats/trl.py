"""Hugging Face TRL: `prompt`, `chosen`, `rejected`, `completion` as text or messages; implicit prompts; `messages`."""

import re
from typing import Any, ClassVar

from data_modules.files.delimited import Cell, check_one_text
from data_modules.formats.base import (
    Record,
    RecordFormat,
    asked,
    conversation_pair,
    optional_text,
    record_id,
    required,
)
from data_modules.messages import Message, check_message, check_messages, parted_answer
from data_modules.records import PreferencePair
from lit_longpo.files.strict_json import RecordError, check_text

_PRINTED = re.compile(r"""\s*\[\s*\{\s*["'](role|content|from|value)["']\s*:.*\}\s*\]\s*""", re.DOTALL)

Said = tuple[tuple[Message, ...], str]  # messages that stand in front of an answer in its own column; the answer


class TRLPreference(RecordFormat):
    """`prompt`, `chosen` and `rejected`; without `prompt`, the messages that chosen and rejected begin with.

    Texts are messages of the user and the assistant. `rejected` may be a list of texts.
    """

    name = "trl"
    fields = ("prompt", "chosen", "rejected", "system", "id")
    companions: ClassVar[tuple[str, ...]] = ("messages",)
    id_field: ClassVar[str] = "id"

    def matches(self, record: Record) -> bool:
        """Chosen answers with a prompt, or in conversations."""
        if "chosen" not in record or "prompt" in record:
            return "chosen" in record
        told = record["chosen"]
        if isinstance(told, str):  # two texts and nothing else: `pair` says what they lack
            return {"chosen", "rejected"} <= set(record) <= {"chosen", "rejected", "id", "system"}
        return isinstance(told, list | tuple) and not ("messages" in record and len(told) == 1)

    def pair(self, record: Record, where: str, name: str) -> PreferencePair:
        """See `RecordFormat`."""
        before, chosen = _answer(required(record, "chosen", where), "chosen", where)
        check_one_text(record.get("rejected"), record["chosen"], "rejected", where)
        rejected = [] if record.get("rejected") is None else _rejected(record["rejected"], where)
        for number, (others, _) in enumerate(rejected):
            if others != before:
                field = "field 'rejected'" if len(rejected) == 1 else f"field 'rejected[{number}]'"
                raise RecordError.at(where, field, "the messages before the answer that `chosen` has", _told(others))
        talk = asked(_prompt(record, before, where), optional_text(record, "system", where), "prompt", where)
        id = record_id(record, self.id_field, where, name)
        return conversation_pair(id, talk, chosen, tuple(text for _, text in rejected), where)


class TRLCompletion(RecordFormat):
    """`prompt` and `completion`, text or messages: for SFT."""

    name = "prompt_completion"
    fields = ("prompt", "completion", "system", "id")

    def matches(self, record: Record) -> bool:
        """A prompt and its completion."""
        return "prompt" in record and "completion" in record

    def pair(self, record: Record, where: str, name: str) -> PreferencePair:
        """See `RecordFormat`."""
        before, answer = _answer(required(record, "completion", where), "completion", where)
        talk = asked(_prompt(record, before, where), optional_text(record, "system", where), "prompt", where)
        return conversation_pair(record_id(record, "id", where, name), talk, answer, (), where)


class Messages(RecordFormat):
    """`messages` that end with an answer, which alone is trained: for SFT.

    With `chosen` and `rejected` (an answer each) the messages end with the user's.
    """

    name = "messages"
    fields = ("messages", "chosen", "rejected", "system", "id")
    companions = ("prompt", "prompt_id", "source")

    def matches(self, record: Record) -> bool:
        """A conversation."""
        return "messages" in record

    def pair(self, record: Record, where: str, name: str) -> PreferencePair:
        """See `RecordFormat`."""
        messages = check_messages(required(record, "messages", where), "messages", where)
        id, system = record_id(record, "id", where, name), optional_text(record, "system", where)
        if "chosen" not in record:
            before, answer = parted_answer(messages, "messages", where)
            return conversation_pair(id, asked(before, system, "messages", where), answer, (), where)
        chosen = _alone(_answer(record["chosen"], "chosen", where), "chosen", where)
        others = [] if record.get("rejected") is None else _rejected(record["rejected"], where)
        rejected = tuple(_alone(other, "rejected", where) for other in others)
        return conversation_pair(id, asked(messages, system, "messages", where), chosen, rejected, where)


def _answer(value: Any, field: str, where: str) -> Said:
    """An answer that is text, a message, or the last of several messages."""
    if isinstance(value, str):
        return (), _text(value, field, where) if isinstance(value, Cell) else check_text(value, field, where)
    if isinstance(value, dict):
        return parted_answer((check_message(value, field, where),), field, where)
    return parted_answer(_messages(value, field, where), field, where)


def _text(value: str, field: str, where: str) -> str:
    """Text that is not the print of a list of messages, as a table of texts has where there was the list."""
    if _PRINTED.fullmatch(value):
        expected = "text, or messages as a list instead of its print (store the data as .jsonl or .parquet)"
        raise RecordError.at(where, f"field {field!r}", expected, value)
    return check_text(value, field, where)


def _messages(value: Any, field: str, where: str) -> tuple[Message, ...]:
    """Messages where text would have done, too."""
    if not isinstance(value, list | tuple):
        raise RecordError.at(where, f"field {field!r}", "text, or a list of messages {role, content}", value)
    return check_messages(value, field, where)


def _rejected(value: Any, where: str) -> list[Said]:
    if isinstance(value, list | tuple) and value and all(isinstance(item, str) for item in value):
        return [_answer(item, f"rejected[{number}]", where) for number, item in enumerate(value)]
    return [_answer(value, "rejected", where)]


def _alone(said: Said, field: str, where: str) -> str:
    if said[0]:
        raise RecordError.at(where, f"field {field!r}", "one message", _told(said[0]))
    return said[1]


def _prompt(record: Record, before: tuple[Message, ...], where: str) -> tuple[Message, ...]:
    """The messages before the answers: those of `prompt`, unless the answers' columns hold them."""
    value = record.get("prompt")
    if value is None:
        if not before:
            expected = "this required field (two texts hold none by what they begin with, messages do)"
            raise RecordError.at(where, "field 'prompt'", expected, sorted(map(str, record)))
        return before
    if not isinstance(value, str):
        prompt = _messages(value, "prompt", where)
        if before not in ((), prompt):
            raise RecordError.at(where, "field 'prompt'", "the messages that `chosen` begins with", _told(prompt))
        return prompt
    text = _text(value, "prompt", where)
    if not before:
        return (Message("user", text),)
    if not any(text.strip() in message.content for message in before):
        raise RecordError.at(where, "field 'prompt'", f"a message that `chosen` begins with: {_told(before)}", text)
    return before


def _told(messages: tuple[Message, ...]) -> list[str]:
    return [f"{message.role}: {message.content}" for message in messages]
