"""LLaMA-Factory: ShareGPT's `conversations` and Alpaca's `instruction`, with chosen and rejected answers or for SFT."""

from typing import Any

from data_modules.fields import check_one_text, check_rejected, optional_text
from data_modules.formats.base import (
    Record,
    RecordFormat,
    asked,
    conversation_pair,
    record_id,
    required,
)
from data_modules.messages import Message, check_message, check_messages, parted_answer
from data_modules.records import PreferencePair
from lit_longpo.files.strict_json import RecordError, check_text


class ShareGPT(RecordFormat):
    """`conversations` up to the answer with `chosen` and `rejected` (a message each); for SFT they end with it."""

    name = "sharegpt"
    fields = ("conversations", "chosen", "rejected", "system", "id")
    companions = ("source",)

    def matches(self, record: Record) -> bool:
        """Conversations under this name, and answers that are not whole ones themselves."""
        return "conversations" in record and not isinstance(record.get("chosen"), list | tuple)

    def pair(self, record: Record, where: str, name: str) -> PreferencePair:
        """See `RecordFormat`."""
        messages = check_messages(required(record, "conversations", where), "conversations", where)
        rejected = () if record.get("rejected") is None else (_answer_text(record["rejected"], "rejected", where),)
        if "chosen" in record:
            chosen = _answer_text(record["chosen"], "chosen", where)
        else:
            messages, chosen = parted_answer(messages, "conversations", where)
        talk = asked(messages, optional_text(record, "system", where), "conversations", where)
        return conversation_pair(record_id(record, "id", where, name), talk, chosen, rejected, where)


class Alpaca(RecordFormat):
    """`instruction`, the question about `input`, the context; `chosen` and `rejected`, or `output` for SFT.

    Without an input the instruction is the whole message. `history` lists earlier [question, answer] pairs.
    """

    name = "alpaca"
    fields = ("instruction", "input", "chosen", "rejected", "output", "system", "history", "id")

    def matches(self, record: Record) -> bool:
        """An instruction and an answer that is text, as in no conversation."""
        answer = record.get("chosen", record.get("output"))
        return "instruction" in record and answer is not None and not isinstance(answer, list | tuple)

    def pair(self, record: Record, where: str, name: str) -> PreferencePair:
        """See `RecordFormat`."""
        instruction = check_text(required(record, "instruction", where), "instruction", where)
        context = optional_text(record, "input", where)
        chosen, rejected = _answers(record, where)
        return PreferencePair(
            id=record_id(record, "id", where, name),
            question="" if context is None else instruction,
            short_context="",
            long_context=instruction if context is None else context,
            chosen=chosen,
            rejected=rejected,
            system=optional_text(record, "system", where),
            history=_history(record.get("history"), where),
        )


def _answer_text(value: Any, field: str, where: str) -> str:
    if isinstance(value, str):
        return check_text(value, field, where)
    return parted_answer((check_message(value, field, where),), field, where)[1]


def _answers(record: Record, where: str) -> tuple[str, tuple[str, ...]]:
    """Chosen and rejected; `output` is what SFT data calls the answer."""
    if "chosen" in record and record.get("output") not in (None, ""):
        raise RecordError.at(where, "field 'output'", "nothing beside `chosen`", record["output"])
    field = "chosen" if "chosen" in record else "output"
    chosen = check_text(required(record, field, where), field, where)
    value = record.get("rejected")
    check_one_text(value, chosen, "rejected", where)
    if value is None:
        return chosen, ()
    return chosen, check_rejected([value] if isinstance(value, str) else value, chosen, "rejected", where)


def _history(value: Any, where: str) -> tuple[Message, ...]:
    said = list[Message]()
    for number, turn in enumerate(_list_of_pairs(value, where)):
        for role, text in zip(("user", "assistant"), turn, strict=True):
            said.append(Message(role, check_text(text, f"history[{number}]", where)))
    return tuple(said)


def _list_of_pairs(value: Any, where: str) -> list[Any]:
    turns = [] if value is None else value
    if not isinstance(turns, list) or any(not isinstance(turn, list) or len(turn) != 2 for turn in turns):
        raise RecordError.at(where, "field 'history'", "a list of [question, answer] pairs", value)
    return turns
