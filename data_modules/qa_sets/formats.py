"""Question-answering files -> `QARecord`: MuSiQue, HotpotQA, 2WikiMultihopQA, SQuAD, and plain questions.

Every reader is strict: a record that does not have the documented fields, or has a misspelt one, is an error that
names file, line and field. A question without an answer in its passages becomes a record without answers, which says
why.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from data_modules.fields import refuse_file_name
from data_modules.qa_sets.matching import answered_by
from data_modules.records import Passage, QARecord
from lit_longpo.errors import InputError
from lit_longpo.files.answer_fields import accepted_answers, refuse_unread_answers
from lit_longpo.files.json_files import json_lines, json_list
from lit_longpo.files.strict_json import RecordError, check_text, check_texts, refuse_misspelt

QAFormat = Literal["auto", "musique", "hotpotqa", "2wikimultihop", "squad", "questions"]
Fields = dict[str, object]

# What is read of each kind of record; `a|b` are two names of one field.
_MUSIQUE = ("id", "question", "answer", "answer_aliases", "answerable", "paragraphs")
_PARAGRAPH = ("title", "paragraph_text", "is_supporting")
_HOTPOTQA = ("_id", "question", "answer", "supporting_facts", "context")
_HOTPOTQA_COLUMNS = {"context": ("title", "sentences"), "supporting_facts": ("title", "sent_id")}
_SQUAD = ("id", "question", "answers", "is_impossible")
_PLAIN = ("id", "question", "answers|answer", "context|passages")
_PASSAGE = ("title", "text", "supporting")
_TABLES = (".parquet", ".csv", ".tsv")


def read_qa(path: str | Path, format: QAFormat = "auto") -> list[QARecord]:
    """All questions of a file with their passages.

    Args:
        path: JSON Lines, a JSON list, or a SQuAD document.
        format: how to read it; `auto` looks at the first record.

    Raises:
        RecordError: a record is malformed, an id comes twice, or the format is not recognised.
        InputError: the file is a table.
    """
    rows = list(_rows(Path(path)))
    if not rows:
        raise RecordError.at(str(path), "file", "at least one record", "an empty file")
    if format == "auto":
        format = _recognise(rows[0][2], str(path))
    records = dict[str, QARecord]()
    for where, name, row in rows:
        for record in _READERS[format](row, where, name):
            if record.id in records:
                raise RecordError.at(where, "field 'id'", "an id not used before", record.id)
            records[record.id] = record
    return list(records.values())


def read_corpus(path: str | Path) -> list[Passage]:
    """Distractor passages from a JSON list of objects with `title` and `text`.

    Raises:
        RecordError: the file is anything else, or empty.
    """
    passages = [_passage(row, where, {"title", "text"}) for where, _, row in _rows(Path(path))]
    if not passages:
        raise RecordError.at(str(path), "file", "at least one passage", "an empty file")
    return passages


def _rows(path: Path) -> Iterator[tuple[str, str, Fields]]:
    """Where each record is, a name for one that has none, and its fields."""
    if path.suffix in _TABLES:
        raise InputError(
            f"expected JSON Lines, a JSON list or a SQuAD document, got the table {path}; write its records into a "
            ".jsonl file (pandas: to_json(path, orient='records', lines=True))"
        )
    lines = path.suffix == ".jsonl"
    for number, (where, value) in enumerate(json_lines(path) if lines else json_list(path), 1):
        name = f"{path.name}:{number}" if lines else f"{path.name}: record {number}"
        yield where, name, _object(value, "record", where)


def _recognise(row: Fields, path: str) -> QAFormat:
    if "data" in row:
        return "squad"
    if "paragraphs" in row:
        return "musique"
    if "supporting_facts" in row:
        return "2wikimultihop" if "evidences" in row else "hotpotqa"
    refuse_misspelt(row, ("supporting_facts",), path)  # without it, HotpotQA's records are nearly plain questions
    if "question" in row and ("context" in row or "passages" in row):
        return "questions"
    formats = ", ".join(name for name in get_args(QAFormat) if name != "auto")
    expected = f"one of the formats {formats}, the last with `question`, `answers` and `context` or `passages`"
    raise RecordError.at(path, "file", expected, sorted(map(str, row)))


def _musique(row: Fields, where: str, _: str) -> Iterator[QARecord]:
    _check_names(row, _MUSIQUE, where)
    passages = list[Passage]()
    for item in _objects(row, "paragraphs", where):
        refuse_misspelt(item, _PARAGRAPH, where)
        text = check_text(item.get("paragraph_text"), "paragraph_text", where)
        passages.append(Passage(_title(item, where), text, _flag(item, "is_supporting", where)))
    aliases = check_texts(row.get("answer_aliases", []), "answer_aliases", where)
    answerable = "answerable" not in row or _flag(row, "answerable", where)
    yield _record(row, "id", aliases, passages, where, answerable=answerable)


def _hotpotqa(row: Fields, where: str, _: str) -> Iterator[QARecord]:
    row = _listed_by_rows(row)
    _check_names(row, _HOTPOTQA, where)
    titles = _supporting_titles(row, where)
    context = row.get("context")
    if not isinstance(context, list):
        raise RecordError.at(where, "field 'context'", "a list of [title, sentences]", context)
    passages, lacking = list[Passage](), set(titles)
    for item in context:
        if not isinstance(item, list) or len(item) != 2:
            raise RecordError.at(where, "field 'context'", "[title, sentences]", item)
        title = check_text(item[0], "context title", where, blank=True)
        sentences = check_texts(item[1], "context sentences", where, blank=True)
        text = " ".join(sentence.strip() for sentence in sentences if sentence.strip())
        if text:  # HotpotQA has paragraphs without a word
            passages.append(Passage(title, text, title in titles))
            lacking.discard(title)
    if lacking:
        yield _unanswered(row, passages, "a supporting title is not in the context", where)
    else:
        yield _record(row, "_id", (), passages, where)


def _listed_by_rows(row: Fields) -> Fields:
    """A record as HotpotQA's file has it; the hub's has columns in place of pairs, and `id` for `_id`."""
    listed = {"_id" if name == "id" and "_id" not in row else name: value for name, value in row.items()}
    for name, columns in _HOTPOTQA_COLUMNS.items():
        value = row.get(name)
        first, second = (value.get(column) if isinstance(value, dict) else None for column in columns)
        if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
            listed[name] = [list(pair) for pair in zip(first, second, strict=True)]
    return listed


def _supporting_titles(row: Fields, where: str) -> set[str]:
    expected, facts = "a list of [title, sentence number]", row.get("supporting_facts")
    if not isinstance(facts, list) or not facts:
        raise RecordError.at(where, "field 'supporting_facts'", expected, facts)
    for number, fact in enumerate(facts):
        if not isinstance(fact, list) or len(fact) != 2 or not isinstance(fact[0], str) or type(fact[1]) is not int:
            raise RecordError.at(where, f"field 'supporting_facts[{number}]'", "[title, sentence number]", fact)
    return {fact[0] for fact in facts}


def _unanswered(row: Fields, passages: list[Passage], reason: str, where: str) -> QARecord:
    """A question of a well-formed record whose passages cannot answer it."""
    for name in ("_id", "question", "answer"):
        check_text(row.get(name), name, where)
    return QARecord(str(row["_id"]), str(row["question"]), (), tuple(passages), reason)


def _squad(row: Fields, where: str, _: str) -> Iterator[QARecord]:
    for article in _objects(row, "data", where):
        refuse_misspelt(article, ("title", "paragraphs"), where)
        paragraphs = _objects(article, "paragraphs", where)
        title = _title(article, where)
        texts = [check_text(paragraph.get("context"), "context", where) for paragraph in paragraphs]
        for number, paragraph in enumerate(paragraphs):
            passages = [Passage(title, text, i == number) for i, text in enumerate(texts)]
            for question in _objects(paragraph, "qas", where):
                yield _squad_question(question, passages, f"{where}, question {question.get('id')!r}")


def _squad_question(row: Fields, passages: list[Passage], where: str) -> QARecord:
    _check_names(row, _SQUAD, where)
    answers = [check_text(item.get("text"), "answers text", where) for item in _objects(row, "answers", where)]
    identifier = check_text(row.get("id"), "id", where)
    question = check_text(row.get("question"), "question", where, blank=True)  # CMRC has one without words
    if "is_impossible" in row and _flag(row, "is_impossible", where):
        answers = []
    return _extracted(QARecord(identifier, question, tuple(dict.fromkeys(answers)), tuple(passages)))


def _extracted(record: QARecord) -> QARecord:
    """A record of a set whose answers are pieces of its passages: without answers if none is."""
    if not record.answers or answered_by(record.answers, record.passages):
        return record
    return replace(record, answers=(), unanswered="no supporting passage holds an answer")


def _questions(row: Fields, where: str, name: str) -> Iterator[QARecord]:
    """A plain question: its context is a passage that supports the answer, distractors are those of other questions."""
    _check_names(row, _PLAIN, where)
    if "passages" in row and "context" in row:
        raise RecordError.at(where, "field 'context'", "this field or 'passages', not both", row["context"])
    answers = accepted_answers(row, where)
    number = row.get("id", name)
    identifier = str(number) if type(number) is int else check_text(number, "id", where)
    question = check_text(row.get("question"), "question", where)
    if "passages" not in row:
        text = check_text(row.get("context"), "context", where)
        refuse_file_name(text, "context", where)
        passages = [Passage("", text, supporting=True)]
    else:
        passages = [_passage(item, where, set(_PASSAGE)) for item in _objects(row, "passages", where)]
    if answers and not any(passage.supporting for passage in passages):
        raise RecordError.at(where, "field 'passages'", "at least one with `supporting: true`", len(passages))
    yield QARecord(identifier, question, answers, tuple(passages))


def _passage(row: Fields, where: str, names: set[str]) -> Passage:
    refuse_misspelt(row, names, where)
    supporting = "supporting" in names & set(row) and _flag(row, "supporting", where)
    text = check_text(row.get("text"), "text", where)
    refuse_file_name(text, "text", where)
    return Passage(_title(row, where), text, supporting)


def _record(
    row: Fields,
    id_field: str,
    aliases: tuple[str, ...],
    passages: list[Passage],
    where: str,
    *,
    answerable: bool = True,
) -> QARecord:
    identifier = check_text(row.get(id_field), id_field, where)
    question = check_text(row.get("question"), "question", where)
    if not answerable:
        return QARecord(identifier, question, (), tuple(passages))
    if not any(passage.supporting for passage in passages):
        raise RecordError.at(where, "passages", "at least one supporting passage", len(passages))
    answer = check_text(row.get("answer"), "answer", where)
    return _extracted(QARecord(identifier, question, tuple(dict.fromkeys((answer, *aliases))), tuple(passages)))


def _check_names(row: Fields, names: tuple[str, ...], where: str) -> None:
    refuse_misspelt(row, names, where)
    refuse_unread_answers(row, names, where)


def _object(value: object, name: str, where: str) -> Fields:
    if not isinstance(value, dict):
        raise RecordError.at(where, name, "a JSON object", value)
    return value


def _objects(row: Fields, name: str, where: str) -> list[Fields]:
    value = row.get(name)
    if not isinstance(value, list):
        raise RecordError.at(where, f"field {name!r}", "a list of objects", value)
    return [_object(item, f"field {name!r}", where) for item in value]


def _title(row: Fields, where: str) -> str:
    return check_text(row.get("title", ""), "title", where, blank=True)


def _flag(row: Fields, name: str, where: str) -> bool:
    value = row.get(name)
    if not isinstance(value, bool):
        raise RecordError.at(where, f"field {name!r}", "true or false", value)
    return value


_READERS: dict[str, Callable[[Fields, str, str], Iterator[QARecord]]] = {
    "musique": _musique,
    "hotpotqa": _hotpotqa,
    "2wikimultihop": _hotpotqa,
    "squad": _squad,
    "questions": _questions,
}
