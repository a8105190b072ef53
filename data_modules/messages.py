"""Messages of a conversation as data sets store them: who says what, and which message holds the context."""

from collections.abc import Sequence
from dataclasses import dataclass

from lit_longpo.files.plain_text import is_blank
from lit_longpo.files.strict_json import RecordError, check_text

# Names that data sets give the sides of a conversation, and those of chat templates. Templates that know a developer
# write one in front as the system's; those that do not would drop it.
ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}
_LAYOUTS = (("role", "content"), ("from", "value"))
_THOUGHTS = ("reasoning_content", "reasoning", "thinking", "thoughts", "thought")
_NOTHING: tuple[object, ...] = (None, "", [], (), {})  # how data sets write what is not there
# Keys of a message that say something, or whether it is trained: never mere notes.
_TELLING = (
    *("tool", "function", "name", "reason", "think", "thought", "channel", "document", "image", "audio", "video"),
    *("weight", "loss", "train", "mask", "label"),
)


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
    """The messages, if they are a list of {role, content} or {from, value}; other keys may be empty only.

    A system message in front that says nothing is none.

    Raises:
        RecordError: they are not.
    """
    if not isinstance(value, list | tuple):
        expected = "a list of messages {role, content}"
        if isinstance(value, str):
            expected += ", no print of one (store the data as .jsonl or .parquet)"
        raise RecordError.at(where, f"field {name!r}", expected, value)
    said = tuple(
        check_message(item, f"{name}[{number}]", where, empty_system=not number) for number, item in enumerate(value)
    )
    return said[1:] if said and is_blank(said[0].content) else said


def check_message(value: object, name: str, where: str, *, empty_system: bool = False) -> Message:
    """One message of `check_messages`.

    Raises:
        RecordError: it is none.
    """
    message = value if isinstance(value, dict) else {}
    layout = next((keys for keys in _LAYOUTS if message.get(keys[0]) is not None and keys[1] in message), None)
    if layout is None:
        raise RecordError.at(where, f"field {name!r}", "a message {role, content} of text", value)
    for key, item in message.items():
        if key not in layout and not _says_nothing(item):
            expected = f"nothing beside {' and '.join(layout)}{_way_out(key)}"
            raise RecordError.at(where, f"field '{name}.{key}'", expected, item)
    role, content = (message[key] for key in layout)
    if not isinstance(role, str) or role not in ROLES:
        raise RecordError.at(where, f"field '{name}.{layout[0]}'", f"a role of {', '.join(ROLES)}", role)
    empty = empty_system and ROLES[role] == "system"
    place = f"{name}.{layout[1]}"
    text = "" if empty and content is None else _text_of(content, place, where)
    return Message(ROLES[role], check_text(text, place, where, blank=empty))


def _way_out(key: object) -> str:
    """What to do about a key of a message that is not read."""
    if key in _THOUGHTS:
        return (
            ": begin the content with thoughts that are to be trained, in the marks of the model's chat template "
            "(`<think>...</think>`), and take the others out"
        )
    return ", or `data.init_args.extra_columns: ignore`" if _is_note(key) else ""


def _says_nothing(item: object) -> bool:
    """How data sets write what is not there; tables give every object the fields of the others, as null."""
    if isinstance(item, dict):
        return all(map(_says_nothing, item.values()))
    return item in _NOTHING


def without_notes(value: object) -> tuple[object, list[str]]:
    """Messages without notes about them (a language, a time), and the notes' names; anything else as it is."""
    if not isinstance(value, list | tuple) or not all(isinstance(item, dict) for item in value):
        return value, []
    known = {key for layout in _LAYOUTS for key in layout}
    if not all(known.intersection(item) for item in value):
        return value, []
    notes = dict.fromkeys(key for item in value for key in item if key not in known and _is_note(key))
    return [{key: item[key] for key in item if key not in notes} for item in value], list(notes)


def _is_note(key: object) -> bool:
    return isinstance(key, str) and not any(part in key.lower() for part in _TELLING)


def _text_of(content: object, name: str, where: str) -> object:
    """The text of contents that are parts, `[{"type": "text", "text": ...}]`: chat templates join them with nothing.

    All else as it is.
    """
    if not isinstance(content, list | tuple) or not content or not all(isinstance(part, dict) for part in content):
        return content
    return "".join(_part(part, f"{name}[{number}]", where) for number, part in enumerate(content))


def _part(part: dict[str, object], name: str, where: str) -> str:
    said = {key: item for key, item in part.items() if item is not None}
    if said.get("type") != "text":
        raise RecordError.at(where, f"field '{name}.type'", "'text': prompts are text alone", said.get("type", part))
    if set(said) != {"type", "text"}:
        raise RecordError.at(where, f"field {name!r}", "a part {type, text}", part)
    return check_text(said["text"], f"{name}.text", where, blank=True)


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
