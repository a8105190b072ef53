"""Question-answering files -> `QARecord`: MuSiQue, HotpotQA, 2WikiMultihopQA, SQuAD, and plain questions.

Every reader is strict: a record that does not have the documented fields is an error that names
file, record and field. A question without an answer in its passages becomes a record without answers.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, get_args

from data_modules.records import Passage, QARecord
from lit_longpo.files.strict_json import RecordError, check_text, check_texts, decode_json

QAFormat = Literal["auto", "musique", "hotpotqa", "2wikimultihop", "squad", "questions"]
Fields = dict[str, object]


def read_qa(path: str | Path, format: QAFormat = "auto") -> list[QARecord]:
    """All questions of a file with their passages.

    Args:
        path: JSON Lines, a JSON list, or a SQuAD document.
        format: how to read it; `auto` looks at the first record.

    Raises:
        RecordError: a record is malformed, an id comes twice, or the format is not recognised.
    """
    rows = list(_rows(Path(path)))
    if not rows:
        raise RecordError.at(str(path), "file", "at least one record", "an empty file")
    if format == "auto":
        format = _recognise(rows[0][1], str(path))
    records = dict[str, QARecord]()
    for where, row in rows:
        for record in _READERS[format](row, where):
            if record.id in records:
                raise RecordError.at(where, "field 'id'", "an id not used before", record.id)
            records[record.id] = record
    return list(records.values())


def read_corpus(path: str | Path) -> list[Passage]:
    """Distractor passages from a JSON list of objects with `title` and `text`.

    Raises:
        RecordError: the file is anything else.
    """
    return [Passage(_title(row, where), check_text(row.get("text"), "text", where)) for where, row in _rows(Path(path))]


def _rows(path: Path) -> Iterator[tuple[str, Fields]]:
    """(where, object) of every record; a JSON Lines file may hold one object a line only."""
    raw = path.read_bytes()
    if path.suffix == ".jsonl":
        numbered = enumerate(raw.removesuffix(b"\n").split(b"\n") if raw else [], 1)
        values = [(f"{path}:{number}", decode_json(line, f"{path}:{number}")) for number, line in numbered]
    else:
        document = decode_json(raw, str(path))
        items = document if isinstance(document, list) else [document]
        values = [(f"{path}: record {number}", item) for number, item in enumerate(items, 1)]
    for where, value in values:
        yield where, _object(value, "record", where)


def _recognise(row: Fields, path: str) -> QAFormat:
    if "data" in row:
        return "squad"
    if "paragraphs" in row:
        return "musique"
    if "supporting_facts" in row:
        return "2wikimultihop" if "evidences" in row else "hotpotqa"
    if "question" in row and ("context" in row or "passages" in row):
        return "questions"
    formats = ", ".join(name for name in get_args(QAFormat) if name != "auto")
    expected = f"one of the formats {formats}, the last with `question`, `answers` and `context` or `passages`"
    raise RecordError.at(path, "file", expected, sorted(map(str, row)))


def _musique(row: Fields, where: str) -> Iterator[QARecord]:
    passages = [
        Passage(
            _title(item, where),
            check_text(item.get("paragraph_text"), "paragraph_text", where),
            _flag(item, "is_supporting", where),
        )
        for item in _objects(row, "paragraphs", where)
    ]
    aliases = check_texts(row.get("answer_aliases", []), "answer_aliases", where)
    answerable = "answerable" not in row or _flag(row, "answerable", where)
    yield _record(row, "id", aliases, passages, where, answerable=answerable)


def _hotpotqa(row: Fields, where: str) -> Iterator[QARecord]:
    facts = row.get("supporting_facts")
    if not isinstance(facts, list) or not all(isinstance(fact, list) and fact for fact in facts):
        raise RecordError.at(where, "field 'supporting_facts'", "a list of [title, sentence number]", facts)
    titles = {fact[0] for fact in facts}
    context = row.get("context")
    if not isinstance(context, list):
        raise RecordError.at(where, "field 'context'", "a list of [title, sentences]", context)
    passages = list[Passage]()
    for item in context:
        if not isinstance(item, list) or len(item) != 2:
            raise RecordError.at(where, "field 'context'", "[title, sentences]", item)
        title = check_text(item[0], "context title", where, blank=True)
        sentences = check_texts(item[1], "context sentences", where, blank=True)
        text = " ".join(sentence.strip() for sentence in sentences if sentence.strip())
        if text:  # HotpotQA has paragraphs without a word
            passages.append(Passage(title, text, title in titles))
    yield _record(row, "_id", (), passages, where)


def _squad(row: Fields, where: str) -> Iterator[QARecord]:
    for article in _objects(row, "data", where):
        paragraphs = _objects(article, "paragraphs", where)
        title = _title(article, where)
        texts = [check_text(paragraph.get("context"), "context", where) for paragraph in paragraphs]
        for number, paragraph in enumerate(paragraphs):
            passages = [Passage(title, text, i == number) for i, text in enumerate(texts)]
            for question in _objects(paragraph, "qas", where):
                yield _squad_question(question, passages, f"{where}, question {question.get('id')!r}")


def _squad_question(row: Fields, passages: list[Passage], where: str) -> QARecord:
    answers = [check_text(item.get("text"), "answers text", where) for item in _objects(row, "answers", where)]
    identifier = check_text(row.get("id"), "id", where)
    question = check_text(row.get("question"), "question", where, blank=True)  # CMRC has one without words
    return QARecord(identifier, question, tuple(dict.fromkeys(answers)), tuple(passages))


def _questions(row: Fields, where: str) -> Iterator[QARecord]:
    """A plain question: its context is a passage that supports the answer, distractors are those of other questions."""
    answers = row.get("answers", row.get("answer"))
    texts = check_texts([answers] if isinstance(answers, str) else answers, "answers", where)
    number = row.get("id", Path(where).name)
    identifier = str(number) if type(number) is int else check_text(number, "id", where)
    question = check_text(row.get("question"), "question", where)
    if "passages" not in row:
        passages = [Passage("", check_text(row.get("context"), "context", where), supporting=True)]
    else:
        passages = [
            Passage(
                _title(item, where),
                check_text(item.get("text"), "passages.text", where),
                _flag(item, "supporting", where) if "supporting" in item else False,
            )
            for item in _objects(row, "passages", where)
        ]
    if texts and not any(passage.supporting for passage in passages):
        raise RecordError.at(where, "field 'passages'", "at least one with `supporting: true`", len(passages))
    yield QARecord(identifier, question, tuple(dict.fromkeys(texts)), tuple(passages))


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
    return QARecord(identifier, question, tuple(dict.fromkeys((answer, *aliases))), tuple(passages))


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


_READERS: dict[str, Callable[[Fields, str], Iterator[QARecord]]] = {
    "musique": _musique,
    "hotpotqa": _hotpotqa,
    "2wikimultihop": _hotpotqa,
    "squad": _squad,
    "questions": _questions,
}
