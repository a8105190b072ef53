"""Hugging Face TRL: `prompt`, `chosen`, `rejected`, `completion` as text or messages; implicit prompts; `messages`."""

import re
from typing import Any, ClassVar

from data_modules.fields import check_one_text, optional_text
from data_modules.files.delimited import Cell, as_truth
from data_modules.formats.base import (
    Record,
    RecordFormat,
    asked,
    conversation_pair,
    record_id,
    required,
)
from data_modules.messages import Conversation, Message, check_message, check_messages, parted_answer
from data_modules.records import PreferencePair
from lit_longpo.files.strict_json import RecordError, check_text

_PRINTED = re.compile(r"""\s*\[\s*\{\s*["'](role|content|from|value)["']\s*:.*\}\s*\]\s*""", re.DOTALL)

_REJECTED = ("rejected_response", "rejected_message", "rejected_messages")  # ms-swift, OpenPipe, ms-swift

Said = tuple[tuple[Message, ...], str]  # messages that stand in front of an answer in its own column; the answer


class TRLPreference(RecordFormat):
    """`prompt`, `chosen` and `rejected`; without `prompt`, the messages that chosen and rejected begin with.

    Texts are messages of the user and the assistant. `rejected` may be a list of texts. `short_prompt` is the prompt
    with the short context: text of the message with the context, or all messages, the others as they are in `prompt`.
    """

    name = "trl"
    fields = ("prompt", "short_prompt", "chosen", "rejected", "system", "id")
    companions: ClassVar[tuple[str, ...]] = ("messages", "source", "dataset")
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
        rejected = [] if record.get("rejected") is None else _rejected(record["rejected"], "rejected", where)
        for number, (others, _) in enumerate(rejected):
            if others != before:
                field = "field 'rejected'" if len(rejected) == 1 else f"field 'rejected[{number}]'"
                raise RecordError.at(where, field, "the messages before the answer that `chosen` has", _told(others))
        talk = asked(_prompt(record, before, where), optional_text(record, "system", where), "prompt", where)
        id = record_id(record, self.id_field, where, name)
        short = _short_context(record.get("short_prompt"), talk, where)
        return conversation_pair(id, talk, chosen, tuple(text for _, text in rejected), where, short)

    def extras(self, record: Record) -> list[str]:
        """`messages` too, unless they say again what the pair says."""
        said_elsewhere = "messages" in self.companions and record.get("messages") and not self._says(record)
        return [*(["messages"] if said_elsewhere else []), *super().extras(record)]

    def unknown(self, fields: list[str], where: str) -> RecordError:
        """See `RecordFormat`; of `messages` what they would have been."""
        if fields[0] != "messages" or "messages" not in self.companions:
            return super().unknown(fields, where)
        expected = (
            "the messages of `prompt` again, with or without `chosen` behind them; nothing else in it is read: "
            "`data.init_args.format: messages` reads it, `data.init_args.extra_columns: ignore` leaves it out"
        )
        return RecordError.at(where, "field 'messages'", expected, "other messages")

    def _says(self, record: Record) -> bool:
        """Whether the pair has what is in `messages`; of a record that makes no pair its own error tells more."""
        try:
            pair = self.pair(record, "", "-")
        except RecordError:
            return True
        asked = [*pair.history, Message("user", pair.long_context), *pair.followup]
        try:
            messages = check_messages(record["messages"], "messages", "")
        except RecordError:
            return False
        others = [message for message in messages if message.role != "system"]
        systems = [message.content for message in messages if message.role == "system" and message.content]
        return systems in ([], [pair.system]) and others in (asked, [*asked, Message("assistant", pair.chosen)])


class TRLCompletion(RecordFormat):
    """`prompt` and `completion`, text or messages: for SFT. A `label` of KTO's may be true only."""

    name = "prompt_completion"
    fields = ("prompt", "completion", "label", "system", "id")

    def matches(self, record: Record) -> bool:
        """A prompt and its completion."""
        return "prompt" in record and "completion" in record

    def pair(self, record: Record, where: str, name: str) -> PreferencePair:
        """See `RecordFormat`."""
        if as_truth(record.get("label")) not in (None, True):
            expected = "true: SFT trains on every completion, and nothing trains on one that is only unwanted"
            raise RecordError.at(where, "field 'label'", expected, record["label"])
        before, answer = _answer(required(record, "completion", where), "completion", where)
        talk = asked(_prompt(record, before, where), optional_text(record, "system", where), "prompt", where)
        return conversation_pair(record_id(record, "id", where, name), talk, answer, (), where)


class Messages(RecordFormat):
    """`messages` that end with an answer, which alone is trained: for SFT; or with `rejected`, the worse one.

    With `chosen` and `rejected` (an answer each) the messages end with the user's. Other projects call the rejected
    answer after messages that end with the chosen one `rejected_response`, `rejected_message` or, with all before it,
    `rejected_messages`.
    """

    name = "messages"
    fields = ("messages", "chosen", "rejected", *_REJECTED, "system", "id")
    companions = ("prompt", "prompt_id", "source", "num_turns", "length")

    def matches(self, record: Record) -> bool:
        """A conversation."""
        return "messages" in record

    def extras(self, record: Record) -> list[str]:
        """`prompt` too, unless a message holds it: a document that stands there alone would be lost."""
        lost = bool(record.get("prompt")) and not _holds(record.get("messages"), record["prompt"])
        return [*["prompt"] * lost, *super().extras(record)]

    def unknown(self, fields: list[str], where: str) -> RecordError:
        """See `RecordFormat`; of `prompt` why it is not passed over."""
        if fields[0] != "prompt":
            return super().unknown(fields, where)
        expected = "text that is in `messages` too, as only these are read, or `data.init_args.extra_columns: ignore`"
        return RecordError.at(where, "field 'prompt'", expected, "another text")

    def pair(self, record: Record, where: str, name: str) -> PreferencePair:
        """See `RecordFormat`."""
        messages = check_messages(required(record, "messages", where), "messages", where)
        if "chosen" in record:
            chosen = answer_alone(record["chosen"], "chosen", where)
        else:
            messages, chosen = parted_answer(messages, "messages", where)
        talk = asked(messages, optional_text(record, "system", where), "messages", where)
        rejected = _rejected_behind(messages, chosen, record, where)
        return conversation_pair(record_id(record, "id", where, name), talk, chosen, rejected, where)


def _holds(messages: Any, prompt: Any) -> bool:
    """Whether a message holds a prompt's text, or messages begin with a prompt's, however they are spaced."""
    try:
        said = check_messages(messages, "messages", "")
        asked = (prompt,) if isinstance(prompt, str) else [one.content for one in check_messages(prompt, "prompt", "")]
    except RecordError:
        return False
    texts = [" ".join(message.content.split()) for message in said]
    return all(any(" ".join(text.split()) in held for held in texts) for text in asked)


def _rejected_behind(messages: tuple[Message, ...], chosen: str, record: Record, where: str) -> tuple[str, ...]:
    """The rejected answers to these messages, under any of their names; each alone, or with the messages before it."""
    names = [name for name in ("rejected", *_REJECTED) if record.get(name) is not None]
    if len(names) > 1:
        raise RecordError.at(where, f"field {names[1]!r}", f"nothing beside `{names[0]}`", record[names[1]])
    for name in names:
        check_one_text(record[name], chosen, name, where)
    said = [answer for name in names for answer in _rejected(record[name], name, where)]
    for before, _ in said:
        if before not in ((), messages):
            expected = "an answer alone, or behind the messages that `messages` has"
            raise RecordError.at(where, f"field {names[0]!r}", expected, _told(before))
    return tuple(text for _, text in said)


def answer_alone(value: Any, field: str, where: str) -> str:
    """An answer that is text, a message, or the only one of a list of messages.

    Raises:
        RecordError: it is none, or there are messages before it.
    """
    before, answer = _answer(value, field, where)
    if before:
        raise RecordError.at(where, f"field {field!r}", "one message", _told(before))
    return answer


def _answer(value: Any, field: str, where: str) -> Said:
    """An answer that is text, a message, or the last of several messages."""
    if isinstance(value, str):
        return (), _text(value, field, where) if isinstance(value, Cell) else check_text(value, field, where)
    if isinstance(value, dict):
        return parted_answer((check_message(value, field, where),), field, where)
    return parted_answer(_messages(value, field, where), field, where)


def _text(value: str, field: str, where: str) -> str:
    """A text; the print of a list of messages, which a table of texts has in the list's place, is refused."""
    if _PRINTED.fullmatch(value):
        expected = "text, or messages as a list instead of its print (store the data as .jsonl or .parquet)"
        raise RecordError.at(where, f"field {field!r}", expected, value)
    return check_text(value, field, where)


def _messages(value: Any, field: str, where: str) -> tuple[Message, ...]:
    """Messages where text would have done, too."""
    if not isinstance(value, list | tuple):
        raise RecordError.at(where, f"field {field!r}", "text, or a list of messages {role, content}", value)
    return check_messages(value, field, where)


def _rejected(value: Any, field: str, where: str) -> list[Said]:
    if isinstance(value, list | tuple) and value and all(isinstance(item, str) for item in value):
        return [_answer(item, f"{field}[{number}]", where) for number, item in enumerate(value)]
    return [_answer(value, field, where)]


def _prompt(record: Record, before: tuple[Message, ...], where: str) -> tuple[Message, ...]:
    """The messages before the answers: those of `prompt`, unless the answers' columns hold them."""
    value = record.get("prompt")
    if value is None:
        if not before:
            expected = "this required field (two texts hold none by what they begin with, messages do)"
            got = None if "prompt" in record else sorted(map(str, record))
            raise RecordError.at(where, "field 'prompt'", expected, got)
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


def _short_context(value: Any, talk: Conversation, where: str) -> str:
    """The message with the short context; empty if there is none."""
    if value is None:
        return ""
    if isinstance(value, str):
        return _text(value, "short_prompt", where)
    short = list(_messages(value, "short_prompt", where))
    if short and short[0].role == "system" and short[0].content == talk.system:
        short.pop(0)
    place = len(talk.history)
    others = [*talk.history, *talk.followup]
    if len(short) != len(others) + 1 or short[:place] + short[place + 1 :] != others or short[place].role != "user":
        expected = "the messages of `prompt`, all but the longest of the user's"
        raise RecordError.at(where, "field 'short_prompt'", expected, _told(tuple(short)))
    return short[place].content


def _told(messages: tuple[Message, ...]) -> list[str]:
    return [f"{message.role}: {message.content}" for message in messages]
