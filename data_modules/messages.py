"""Messages of a conversation as data sets store them: who says what, and which message holds the context."""

from collections.abc import Sequence
from dataclasses import dataclass

from lit_longpo.files.strict_json import RecordError, check_text

# Names that data sets give the sides of a conversation, and those of chat templates.
ROLES = {"system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}
_LAYOUTS = (("role", "content"), ("from", "value"))


@dataclass(frozen=True)
class Message:
    """What one side says.

    Args:
        role: "user" or "assistant"; "system" only in front of a whole conversation.
        content: the text.
    """

    role: str
    content: str


@dataclass(frozen=True)
class Conversation:
    """Everything up to an answer.

    Args:
        system: the system message; `None` without one.
        history: messages before the one with the context.
        context: the longest of the user's messages (the last of equally long ones).
        followup: messages after it; if there are any, the user has the last word.
    """

    system: str | None
    history: tuple[Message, ...]
    context: str
    followup: tuple[Message, ...]


def check_messages(value: object, name: str, where: str) -> tuple[Message, ...]:
    """The messages, if they are a list of {role, content} or {from, value}; other keys may be null only.

    Raises:
        RecordError: they are not.
    """
    if not isinstance(value, list | tuple):
        raise RecordError.at(where, f"field {name!r}", "a list of messages {role, content}", value)
    return tuple(check_message(item, f"{name}[{number}]", where) for number, item in enumerate(value))


def check_message(value: object, name: str, where: str) -> Message:
    """One message of `check_messages`.

    Raises:
        RecordError: it is none.
    """
    said = {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else {}
    layout = next((keys for keys in _LAYOUTS if set(keys) == set(said)), None)
    if layout is None:
        raise RecordError.at(where, f"field {name!r}", "a message {role, content} of text, nothing else in it", value)
    role, content = layout
    if not isinstance(said[role], str) or said[role] not in ROLES:
        raise RecordError.at(where, f"field '{name}.{role}'", f"a role of {', '.join(ROLES)}", said[role])
    return Message(ROLES[said[role]], check_text(_text_of(said[content]), f"{name}.{content}", where))


def _text_of(content: object) -> object:
    """The text of contents that are one part, `[{"type": "text", "text": ...}]`; all else as it is."""
    parts = content if isinstance(content, list | tuple) and len(content) == 1 else [None]
    part = {key: item for key, item in parts[0].items() if item is not None} if isinstance(parts[0], dict) else {}
    return part["text"] if set(part) == {"type", "text"} and part["type"] == "text" else content


def conversation(messages: Sequence[Message], name: str, where: str) -> Conversation:
    """A conversation that waits for an answer, parted around the message that is taken for the context.

    Raises:
        RecordError: the user does not have the last word, or a system message stands inside.
    """
    system = messages[0].content if messages and messages[0].role == "system" else None
    said = tuple(messages[0 if system is None else 1 :])
    roles = [message.role for message in said]
    if "system" in roles:
        raise RecordError.at(where, f"field {name!r}", "a system message at the beginning only", roles)
    if not said or roles[-1] != "user":
        raise RecordError.at(where, f"field {name!r}", "a message of the user before the answer", roles)
    lengths = [len(message.content) if message.role == "user" else -1 for message in said]
    place = max(range(len(said)), key=lambda number: (lengths[number], number))
    return Conversation(system, said[:place], said[place].content, said[place + 1 :])


def parted_answer(messages: Sequence[Message], name: str, where: str) -> tuple[tuple[Message, ...], str]:
    """(messages before the answer, the answer) of messages that end with it.

    Raises:
        RecordError: the assistant does not have the last word.
    """
    if not messages or messages[-1].role != "assistant":
        raise RecordError.at(
            where, f"field {name!r}", "messages that end with the assistant's", [message.role for message in messages]
        )
    return tuple(messages[:-1]), messages[-1].content
