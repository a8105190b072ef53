"""Questions of one's own: JSON Lines or a JSON list with `question`, `answers` and `context` or `passages`.

Other layouts (pairs, published QA sets) are read by whoever registers a reader; `python -m lit_longpo` registers those
of the data modules.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from lit_longpo.errors import InputError, MissingFileError
from lit_longpo.files.answer_fields import accepted_answers, refuse_unread_answers
from lit_longpo.files.folders import nearby
from lit_longpo.files.json_files import json_lines, json_list
from lit_longpo.files.strict_json import RecordError, check_text, refuse_misspelt
from lit_longpo.policy.prompts.encoded_prompt import Surroundings
from lit_longpo.shared_texts import DocumentKeys, document_keys, text_key

log = logging.getLogger(__name__)

Reader = Callable[[str], Iterable[Any]]  # a path -> preference pairs, or questions with passages: pair_questions.py

_FIELDS = ("id", "question", "answers", "answer", "context", "passages", "depth", "title")
_SPELT = ("id", "question", "answers|answer", "context|passages", "depth")
_FOREIGN = ("paragraphs", "supporting_facts", "long_context", "chosen", "data")  # other layouts have these
_readers: list[Reader] = []


class NumberedRecord(NamedTuple):
    """A record of a file, before anything is said about its fields.

    Args:
        where: file and line.
        number: of all records, from 1; the id of a record without one.
        value: what stands there.
    """

    where: str
    number: int
    value: Any


class Passage(NamedTuple):
    """A part of a context, and whether it supports the answer."""

    title: str
    text: str
    supporting: bool


@dataclass(frozen=True)
class Question:
    """What is asked, and which answers are accepted.

    Args:
        id: unique in its file.
        question: about the context; empty if the context is the user's whole message.
        answers: accepted ones; empty if there is no answer to be found.
        context: the text that it is about; may be empty.
        depth: where in the context the answer stands, 0 to 1; `None` if that is not known.
        is_gold: answers are gold; else the first is a preferred answer, written by whoever.
        around: what is said before and behind the message with the context.
        about: the document, and what of it the answer depends on, where that is more or less than the context: what
            `data_modules.splitting.documents_of` gives; empty where the context is the document, and all counts.
    """

    id: str
    question: str
    answers: tuple[str, ...]
    context: str = ""
    depth: float | None = None
    is_gold: bool = True
    around: Surroundings = field(default_factory=Surroundings)
    about: tuple[str, str] = field(default=("", ""), compare=False)

    @property
    def whole(self) -> str:
        """All that is asked about: the context, or every message where the question is in one of them."""
        return self.context if self.question else "\n\n".join(self._messages)

    @property
    def keys(self) -> list[int]:
        """Keys that questions about one document share, as training pairs do; none without a context."""
        if self.question and not self.context:
            return []
        document, facts = self.about
        if not self.question:
            return document_keys(document, facts, self._messages)
        return [text_key(self.context), *document_keys(document or self.context, facts)]

    @property
    def _messages(self) -> list[str]:
        others = (text for _, text in (*self.around.history, *self.around.followup))
        return [self.around.system or "", self.context, *others]


def document_by_question(questions: Sequence[Question]) -> dict[str, str]:
    """What each question is about, by its id: the text of the first question that shares a document with it."""
    labels = DocumentKeys.of(item.keys for item in questions).specific().labels()
    return {item.id: questions[label].whole for item, label in zip(questions, labels.tolist(), strict=True)}


@runtime_checkable
class QuestionSource(Protocol):
    """Where questions come from."""

    def questions(self) -> Iterable[Question]:
        """All of them, the same ones at every call, in a fixed order."""


def register_reader(reader: Reader) -> None:
    """Let `read_questions` ask a reader about files of other layouts.

    Args:
        reader: takes a path; gives pairs, or questions with passages, in the file's order.
    """
    if reader not in _readers:
        _readers.append(reader)


def read_questions(path: str) -> list[Any]:
    """All questions of a file, or, of another layout, the records that hold them.

    Args:
        path: `.jsonl` or `.json` with `question`, `answers` (or `answer`), and `context` or `passages` (texts, or
            objects with `title`, `text` and `supporting`); `id` and `depth` may be there. Or what a registered
            reader knows.

    Raises:
        MissingFileError: there is no such file.
        InputError: a record is malformed, an id comes twice, or nobody knows the layout.
    """
    if not Path(path).exists():
        raise MissingFileError(
            f"expected a file of questions at {str(Path(path).absolute())!r}, found none; type --benchmark.path FILE"
            f"{nearby(path)}"
        )
    rows = _rows(Path(path)) if Path(path).suffix in (".jsonl", ".json") else []
    if rows and _is_plain(rows[0].value):
        _list_extras(path, rows)
        return _unique((row.where, _question(row)) for row in rows)
    if not _readers:
        raise InputError(
            f"expected records with `question`, `answers` and `context` in {path}, got another layout; pairs and QA "
            "sets are read by `python -m lit_longpo`, in a program of your own pass `questions`"
        )
    return list(_readers[0](path))


def _unique(rows: Iterable[tuple[str, Question]]) -> list[Question]:
    found = dict[str, Question]()
    for where, question in rows:
        if question.id in found:
            raise RecordError.at(where, "field 'id'", "an id not used before", question.id)
        found[question.id] = question
    return list(found.values())


def _rows(path: Path) -> list[NumberedRecord]:
    """Every record with where it stands, and with its number: that of its line in JSON Lines."""
    rows = json_lines(path) if path.suffix == ".jsonl" else json_list(path)
    return [NumberedRecord(where, number, value) for number, (where, value) in enumerate(rows, 1)]


def _is_plain(row: object) -> bool:
    """Whether a record is ours; only the first one is asked."""
    is_ours = isinstance(row, dict) and "question" in row and not any(name in row for name in _FOREIGN)
    return is_ours and isinstance(row.get("context", ""), str)  # type: ignore[attr-defined]


def _list_extras(path: str, rows: Iterable[NumberedRecord]) -> None:
    records = [row.value for row in rows if isinstance(row.value, dict)]
    extras = sorted({name for record in records for name in record if name not in _FIELDS})
    if extras:
        log.info("%s: not read: %s", path, ", ".join(extras))


def _question(row: NumberedRecord) -> Question:
    record, where = row.value, row.where
    if not isinstance(record, dict):
        raise RecordError.at(where, "record", "a JSON object", record)
    refuse_misspelt(record, _SPELT, where)
    refuse_unread_answers(record, _SPELT, where)
    name = record.get("id", row.number)
    if not isinstance(name, str | int) or isinstance(name, bool) or name == "":
        raise RecordError.at(where, "field 'id'", "text or a whole number", name)
    context, first, about = _context(record, where)
    answers = accepted_answers(record, where)
    depth = record.get("depth", first)
    if depth is None:
        depth = answer_place(answers, context)
    if depth is not None and not (isinstance(depth, int | float) and 0 <= depth <= 1):
        raise RecordError.at(where, "field 'depth'", "a number from 0 to 1", depth)
    return Question(
        str(name), check_text(record.get("question"), "question", where), answers, context, depth, about=about
    )


def answer_place(answers: Iterable[str], context: str) -> float | None:
    """Where the only occurrence of an answer begins, 0 to 1; `None` if there is no single one."""
    places = {context.find(answer) for answer in answers if answer and context.count(answer) == 1}
    return min(places) / len(context) if places else None


def _context(row: Mapping[str, Any], where: str) -> tuple[str, float | None, tuple[str, str]]:
    """The context, where its first supporting passage begins, and what it is about."""
    if "passages" not in row:
        return check_text(row.get("context"), "context", where), None, ("", "")
    if "context" in row or not isinstance(row["passages"], list) or not row["passages"]:
        raise RecordError.at(where, "field 'passages'", "a list of passages and no `context` beside it", sorted(row))
    return joined_passages([_passage(passage, where) for passage in row["passages"]])


def joined_passages(passages: Iterable[Passage]) -> tuple[str, float | None, tuple[str, str]]:
    """The context that passages make, and what is known of it as `Question` has it.

    Returns:
        Text; where the first passage begins that supports the answer, 0 to 1, or `None`; what it is about: all
        passages, whatever their order and titles, and those that support.
    """
    text, start, found = "", None, list[tuple[str, bool]]()
    for title, body, supports in passages:
        if text:
            text += "\n\n"
        start = len(text) if supports and start is None else start
        text += f"{title}\n{body}" if title.strip() else body
        found.append((body, supports))
    found.sort()
    about = "\n".join(body for body, _ in found), "\n".join(body for body, supports in found if supports)
    return text, None if start is None else start / len(text), about


def _passage(value: Any, where: str) -> Passage:
    if not isinstance(value, dict):
        return Passage("", check_text(value, "passages", where), False)
    refuse_misspelt(value, ("title", "text", "supporting"), where)
    title, supports = value.get("title", ""), value.get("supporting", False)
    if not isinstance(title, str) or not isinstance(supports, bool):
        raise RecordError.at(where, "field 'passages'", "{title, text, supporting: true or false}", value)
    return Passage(title, check_text(value.get("text"), "passages.text", where), supports)
