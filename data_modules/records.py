"""Records that data is stored in, before any token exists, and the strict JSONL files of pairs."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from data_modules.fields import NUMBERS, check_names, check_rejected, check_spans, numbers_of, said_around
from data_modules.fields import Span as Span
from data_modules.messages import Message
from lit_longpo.files.json_files import json_lines
from lit_longpo.files.strict_json import RecordError, check_text, check_texts, decode_json


@dataclass(frozen=True)
class Passage:
    """A titled piece of text; `supporting` if the answer depends on it."""

    title: str
    text: str
    supporting: bool = False


@dataclass(frozen=True)
class QARecord:
    """A question with the passages that answer it and passages that do not.

    `answers` starts with the gold answer, aliases follow; empty if the passages do not answer it, and `unanswered`
    says why.
    """

    id: str
    question: str
    answers: tuple[str, ...]
    passages: tuple[Passage, ...]
    unanswered: str = "the passages do not answer the question"


@dataclass(frozen=True)
class Turn:
    """A later question about the same long context, with a short context of its own.

    Args:
        question: asked after the earlier answers.
        short_context: compressed context of this question; empty if there is none.
        chosen: preferred answer.
        rejected: as many dispreferred answers as the first turn has.
    """

    question: str
    short_context: str
    chosen: str
    rejected: tuple[str, ...]

    def answer(self, role: str, index: int) -> str:
        """The chosen answer, or the rejected one with this number."""
        return self.chosen if role == "chosen" else self.rejected[index]


@dataclass(frozen=True)
class PreferencePair:
    """One training example.

    Args:
        id: unique in its file.
        question: asked about either context; empty if the context is a whole message with the question in it,
            which is then left as it is (`policy.template.user` is for the two apart).
        short_context: compressed context; empty if there is none.
        long_context: the same facts among distractors; empty if there is none.
        chosen: preferred answer.
        rejected: one or more dispreferred answers; none if the data has none.
        answers: accepted gold answers, for evaluation.
        supporting: character spans (start, end) of the supporting passages in `long_context`.
        turns: later questions about `long_context`. In the long context they follow the first answer,
            chosen after chosen and rejected after rejected; in short contexts each stands alone, and
            their log-probabilities are added.
        verified: whether verifiers found chosen better than rejected; `None` if nobody looked, or
            they could not tell.
        weight: by how much the pair's loss is multiplied, above 0; a step's loss stays the mean over the number of
            its examples.
        margin: by how much the chosen answer's reward should exceed the rejected one's, in the objective's own
            units; its loss subtracts it inside the sigmoid.
        system: this record's system message; `None` for that of `policy.template.system`.
        history: what was said before the message with the context.
        followup: what was said after it and before the answer; the user has the last word.

    Attributes:
        origin: file and line that it was read from, for errors; no part of what it says.
    """

    origin: ClassVar[str] = ""

    id: str
    question: str
    short_context: str
    long_context: str
    chosen: str
    rejected: tuple[str, ...]
    answers: tuple[str, ...] = ()
    supporting: tuple[Span, ...] = ()
    turns: tuple[Turn, ...] = ()
    verified: bool | None = None
    weight: float = 1.0
    margin: float = 0.0
    system: str | None = None
    history: tuple[Message, ...] = ()
    followup: tuple[Message, ...] = ()

    @classmethod
    def from_turns(
        cls, id: str, long_context: str, turns: Sequence[Turn], answers: tuple[str, ...], supporting: tuple[Span, ...]
    ) -> "PreferencePair":
        """A pair of one or more turns about the same long context.

        Args:
            id: unique in its file.
            long_context: what all turns are about.
            turns: at least one, in the order they are asked.
            answers: accepted gold answers of the first.
            supporting: character spans of the supporting passages in `long_context`.
        """
        first, *later = turns
        return cls(
            id, **vars(first), long_context=long_context, answers=answers, supporting=supporting, turns=tuple(later)
        )

    @property
    def all_turns(self) -> tuple[Turn, ...]:
        """The first question and the later ones, alike."""
        return Turn(self.question, self.short_context, self.chosen, self.rejected), *self.turns

    @property
    def other_messages(self) -> tuple[Message, ...]:
        """What is said before and after the message with the context, without the system."""
        return *self.history, *self.followup

    @property
    def last_said(self) -> str:
        """How the user's last message ends: that message, or the question that the template puts into it."""
        return self.followup[-1].content if self.followup else self.question or self.long_context or self.short_context

    def read_from(self, origin: str) -> "PreferencePair":
        """The pair itself, told where it was read."""
        object.__setattr__(self, "origin", origin)
        return self

    @property
    def named(self) -> str:
        """What an error calls it: its id, and where it was read."""
        return f"{self.id!r} ({self.origin})" if self.origin else repr(self.id)


NAMES = tuple(item.name for item in fields(PreferencePair))
_TURN_NAMES = tuple(item.name for item in fields(Turn))
# What a record may leave out, and what is not written if there is nothing to say.
_ABSENT = {"short_context": "", "long_context": "", "rejected": (), "system": None, "history": (), "followup": ()}
_OPTIONAL = {"id", *_ABSENT, *(item.name for item in fields(PreferencePair) if item.default is not MISSING)}


def parse_pair(record: object, where: str) -> PreferencePair:
    """Validated pair from decoded JSON or a table row.

    Args:
        record: a dictionary with the fields of `PreferencePair`; lists where it has tuples.
        where: file and line, for the error.

    Raises:
        RecordError: a field is missing, unknown, ill-typed, empty or contradicts another one.
    """
    if not isinstance(record, dict):
        raise RecordError.at(where, "record", "a JSON object", record)
    check_names(record, where, NAMES, _OPTIONAL - {"id"})
    texts: dict[str, Any] = dict.fromkeys(NAMES[:5], "")
    texts |= {field: check_text(record[field], field, where) for field in texts if field in record}
    if not texts["short_context"] and not texts["long_context"]:
        expected = "this field, or `short_context` (null is none)"
        raise RecordError.at(where, "field 'long_context'", expected, sorted(record))
    return PreferencePair(
        **texts, **_rest_of(record, texts["chosen"], len(texts["long_context"]), where), **said_around(record, where)
    )


def _rest_of(record: Mapping[str, Any], chosen: str, length: int, where: str) -> dict[str, Any]:
    """Everything but the texts and what was said around them."""
    rejected = check_rejected(record["rejected"], chosen, "rejected", where) if "rejected" in record else ()
    verified = record.get("verified")
    if verified is not None and not isinstance(verified, bool):
        raise RecordError.at(where, "field 'verified'", "true, false or null", verified)
    return {
        "rejected": rejected,
        "answers": check_texts(record.get("answers", []), "answers", where),
        "supporting": check_spans(record.get("supporting", []), length, where),
        "turns": _turns(record.get("turns", []), len(rejected), where),
        "verified": verified,
        **numbers_of(record, where),
    }


def read_pairs(path: str | Path) -> list[PreferencePair]:
    """All pairs of a JSONL file, one object a line.

    Raises:
        RecordError: any line is malformed, an id comes twice, or the file holds no record.
    """
    pairs, first = [], dict[str, str]()
    for where, value in json_lines(path):
        pair = parse_pair(value, where)
        if pair.id in first:
            raise RecordError.at(where, "field 'id'", f"an id not used before (see {first[pair.id]})", pair.id)
        first[pair.id] = where
        pairs.append(pair)
    if not pairs:
        raise RecordError.at(str(path), "file", "at least one record", "an empty file")
    return pairs


def write_pairs(path: str | Path, pairs: Iterable[PreferencePair]) -> None:
    """Write pairs as JSONL, checked by the rules of the reader; an error leaves no file behind.

    Raises:
        RecordError: a pair would not be read back; `path` is untouched.
    """
    draft = Path(f"{path}.partial")
    try:
        with open(draft, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(_lines(pairs, str(path)))
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _lines(pairs: Iterable[PreferencePair], path: str) -> Iterator[str]:
    ids = set[str]()
    for number, pair in enumerate(pairs, 1):
        line = json.dumps(_stored(pair), ensure_ascii=False)
        where = f"{path}:{number}"
        parse_pair(decode_json(line, where), where)
        if pair.id in ids:
            raise RecordError.at(where, "field 'id'", "an id not used before", pair.id)
        ids.add(pair.id)
        yield line + "\n"


def _stored(pair: PreferencePair) -> dict[str, object]:
    """The pair's fields; those that say nothing are left out, so that files of before stay what they are."""
    stored = _without_defaults({**asdict(pair), "turns": [_without_defaults(asdict(turn)) for turn in pair.turns]})
    return {name: value for name, value in stored.items() if name not in NUMBERS or value != NUMBERS[name]}


def _without_defaults(record: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in record.items() if name not in _ABSENT or value != _ABSENT[name]}


def _turns(value: object, num_rejected: int, where: str) -> tuple[Turn, ...]:
    if not isinstance(value, list | tuple):
        raise RecordError.at(where, "field 'turns'", "a list of later turns", value)
    return tuple(_turn(item, f"turns[{number}]", num_rejected, where) for number, item in enumerate(value))


def _turn(value: object, name: str, num_rejected: int, where: str) -> Turn:
    if not isinstance(value, dict):
        raise RecordError.at(where, f"field {name!r}", f"an object with {', '.join(_TURN_NAMES)}", value)
    check_names(value, f"{where}: {name}", _TURN_NAMES, {"short_context", *(["rejected"] if not num_rejected else [])})
    texts = {
        part: check_text(value[part], f"{name}.{part}", where) if part in value else "" for part in _TURN_NAMES[:3]
    }
    rejected = (
        check_rejected(value["rejected"], texts["chosen"], f"{name}.rejected", where) if "rejected" in value else ()
    )
    if len(rejected) != num_rejected:
        raise RecordError.at(
            where, f"field '{name}.rejected'", f"{num_rejected} answers as in the first turn", rejected
        )
    return Turn(**texts, rejected=rejected)
