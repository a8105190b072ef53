"""Conversations as single projects write them: Anthropic's transcripts and OpenAI's fine-tuning data."""

import re
from collections.abc import Callable
from typing import Any

from data_modules.formats.base import Record, RecordFormat, asked, conversation_pair, record_id, required
from data_modules.formats.trl import TRLPreference, answer_alone
from data_modules.messages import check_messages
from data_modules.records import PreferencePair
from lit_longpo.files.strict_json import RecordError

_TEXTS = ("prompt", "chosen", "rejected")
_SIDES = {"Human": "user", "Assistant": "assistant"}
_SIDE = re.compile(r"(?:\A\s*|\r?\n\r?\n)(Human|Assistant):")
# What may stand beside the messages, and when it means nothing.
_WITHOUT_TOOLS: dict[str, Callable[[object], bool]] = {
    "tools": lambda value: value in (None, []),
    "parallel_tool_calls": lambda value: value is None or isinstance(value, bool),
}


class Transcripts(TRLPreference):
    r"""HH-RLHF: TRL's columns whose texts are transcripts, `\n\nHuman: ...\n\nAssistant: ...`.

    Each side's text becomes a message. `chosen` and `rejected` are whole transcripts, or answers to that in `prompt`.
    """

    name = "hh"
    companions = (*TRLPreference.companions, "response")

    def matches(self, record: Record) -> bool:
        """A transcript where TRL has a text."""
        return "chosen" in record and _is_transcript(record.get("prompt", record["chosen"]))

    def pair(self, record: Record, where: str, name: str) -> PreferencePair:
        """See `RecordFormat`."""
        texts = {field: record[field] for field in _TEXTS if isinstance(record.get(field), str)}
        spoken = {field: _messages(text, field) for field, text in texts.items() if _is_transcript(text)}
        answers = {field: text.strip() for field, text in texts.items() if field not in spoken}
        return super().pair({**record, **answers, **spoken}, where, name)


def _is_transcript(text: object) -> bool:
    return isinstance(text, str) and _SIDE.match(text) is not None


def _messages(transcript: str, field: str) -> list[dict[str, str]]:
    """What each side says; an answer that a prompt opens is not there yet."""
    _, *parts = _SIDE.split(transcript)
    said = [{"role": _SIDES[side], "content": text.strip()} for side, text in zip(parts[::2], parts[1::2], strict=True)]
    opened = field == "prompt" and said[-1] == {"role": "assistant", "content": ""}
    return said[:-1] if opened else said


class OpenAIPreference(RecordFormat):
    """OpenAI's preference fine-tuning: `input` with `messages`, `preferred_output`, `non_preferred_output`."""

    name = "openai"
    fields = ("input", "preferred_output", "non_preferred_output", "id")

    def matches(self, record: Record) -> bool:
        """An answer under this name."""
        return "preferred_output" in record

    def pair(self, record: Record, where: str, name: str) -> PreferencePair:
        """See `RecordFormat`."""
        talk = asked(check_messages(_asked(record, where), "input.messages", where), None, "input.messages", where)
        answers = [answer_alone(required(record, field, where), field, where) for field in self.fields[1:3]]
        return conversation_pair(record_id(record, "id", where, name), talk, answers[0], (answers[1],), where)


def _asked(record: Record, where: str) -> Any:
    """The messages, if nothing beside them changes the prompt."""
    given = required(record, "input", where)
    if not isinstance(given, dict) or "messages" not in given:
        raise RecordError.at(where, "field 'input'", "an object with `messages`", given)
    for name, value in given.items():
        if name != "messages" and not (name in _WITHOUT_TOOLS and _WITHOUT_TOOLS[name](value)):
            raise RecordError.at(where, f"field 'input.{name}'", "nothing: prompts are text without tools", value)
    return given["messages"]
