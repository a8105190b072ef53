"""Refuses answers that are printed messages (JSON, or Python's `repr`), of which every bracket would be trained."""

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

from data_modules.messages import ROLES
from data_modules.records import PreferencePair
from lit_longpo.files.strict_json import RecordError

# Cheap, as every answer is asked: a list or an object that names a message's keys.
_LIKE = re.compile(r"""\s*[\[{].*["'](?:role|from)["']\s*:.*[\]}]\s*""", re.DOTALL)


def refuse_printed(pair: PreferencePair, where: str) -> None:
    """Refuse an answer that is the print of the answer's message, or of the conversation that it ends.

    A conversation without the pair's own prompt in it may well be what a model should write.
    """
    for answer in (pair.chosen, *pair.rejected):
        said = _printed(answer) if _LIKE.fullmatch(answer) else None
        if said and said[-1][0] == "assistant" and (len(said) == 1 or ("user", pair.last_said.strip()) in said):
            expected = "text, or messages as a list instead of a text that prints them (json.loads makes the list)"
            raise RecordError.at(where, "answer", expected, answer)


def _printed(text: str) -> list[tuple[str, str]] | None:
    """Roles and texts of messages that a text prints."""
    value = _decoded(text)
    value = value.get("messages", [value]) if isinstance(value, dict) else value
    said = [_message(item) for item in value] if isinstance(value, list) else []
    return [message for message in said if message] if all(said) else None


def _decoded(text: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue  # TypeError: `{{"role": 1}}`, as templates are written, is a set of a dictionary to Python
    return None


def _message(item: Any) -> tuple[str, str] | None:
    """Role and text; nothing of what is no message."""
    if not isinstance(item, Mapping):
        return None
    role, text = item.get("role", item.get("from")), item.get("content", item.get("value"))
    known = isinstance(role, str) and role in ROLES
    return (ROLES[role], text.strip()) if known and isinstance(text, str) else None
