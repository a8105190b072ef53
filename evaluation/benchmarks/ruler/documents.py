"""RULER's questions about documents, qa_1 and qa_2, from files of SQuAD and HotpotQA."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.benchmarks.official_files import OfficialFileError, Row, read_json, read_official_rows
from evaluation.benchmarks.ruler.generator import Generator, RulerQuestion
from evaluation.benchmarks.ruler.templates import OfficialTasks, mapping


@dataclass(frozen=True)
class DocumentQuestion:
    """One question about documents.

    Args:
        answers: accepted ones.
        needed: numbers of the documents that always come.
        related: numbers of those that come before any other.
    """

    text: str
    answers: tuple[str, ...]
    needed: tuple[int, ...]
    related: tuple[int, ...] = ()


@dataclass(frozen=True)
class QuestionPool:
    """Questions in the file's order, and the pool of all documents, sorted."""

    items: tuple[DocumentQuestion, ...]
    documents: tuple[str, ...]


def read_squad(path: Path) -> QuestionPool:
    """A SQuAD file; questions without an answer are left out.

    Raises:
        MissingFileError: there is no such file.
        OfficialFileError: it is not in SQuAD's format.
    """
    articles = Row(str(path), mapping(read_json(path, "SQuAD's JSON"), str(path), "file")).values.get("data")
    if not isinstance(articles, list) or not articles:
        raise OfficialFileError.at(str(path), "data", "a list of articles", articles)
    paragraphs = [_paragraphs(article, f"{path}: article {number}") for number, article in enumerate(articles, 1)]
    texts = sorted({row.text("context") for rows in paragraphs for row in rows})
    numbers = {text: number for number, text in enumerate(texts)}
    items = [item for rows in paragraphs for item in _about_article(rows, numbers)]
    return QuestionPool(tuple(items), tuple(texts))


def _paragraphs(article: object, where: str) -> list[Row]:
    items = mapping(article, where, "article").get("paragraphs")
    if not isinstance(items, list):
        raise OfficialFileError.at(where, "paragraphs", "a list", items)
    return [
        Row(f"{where}, paragraph {number}", mapping(item, where, "paragraph")) for number, item in enumerate(items, 1)
    ]


def _about_article(rows: Sequence[Row], numbers: Mapping[str, int]) -> list[DocumentQuestion]:
    here = [numbers[row.text("context")] for row in rows]
    return [
        DocumentQuestion(text, answers, (own,), tuple(number for number in here if number != own))
        for own, row in zip(here, rows, strict=True)
        for text, answers in _answered(row)
    ]


def _answered(paragraph: Row) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Questions of a paragraph that have an answer, and their answers."""
    for question in _rows(paragraph, "qas"):
        if question.values.get("is_impossible"):
            continue
        answers = tuple(answer.text("text") for answer in _rows(question, "answers"))
        if not answers:
            raise paragraph.error("answers", "at least one answer", answers)
        yield question.text("question"), answers


def _rows(row: Row, name: str) -> list[Row]:
    """The objects that a field lists."""
    items = row.values.get(name)
    if not isinstance(items, list):
        raise row.error(name, "a list", items)
    return [Row(row.where, mapping(item, row.where, name)) for item in items]


def read_hotpotqa(path: Path) -> QuestionPool:
    """A HotpotQA file of the distractor setting: a JSON list, or JSON Lines.

    Raises:
        MissingFileError: there is no such file.
        OfficialFileError: it is not in HotpotQA's format.
    """
    rows = list(read_official_rows(path, "HotpotQA's JSON"))
    texts = [_hotpotqa_documents(row) for row in rows]
    pool = sorted({text for documents in texts for text in documents})
    numbers = {text: number for number, text in enumerate(pool)}
    items = [
        DocumentQuestion(row.text("question"), (row.text("answer"),), tuple(numbers[text] for text in documents))
        for row, documents in zip(rows, texts, strict=True)
    ]
    return QuestionPool(tuple(items), tuple(pool))


def _hotpotqa_documents(row: Row) -> list[str]:
    """Title and sentences of each."""
    try:
        documents = [(title, "".join(sentences)) for title, sentences in row.values["context"]]  # type: ignore[attr-defined]
    except (KeyError, TypeError, ValueError) as error:
        raise row.error("context", "titles with their sentences", row.values.get("context")) from error
    return [f"{title}\n{text}" for title, text in documents]


class QuestionGenerator(Generator[DocumentQuestion]):
    """qa: a question about one or several documents, among others."""

    asks_again = True

    def __init__(self, tasks: OfficialTasks, seed: int, questions: QuestionPool) -> None:
        super().__init__(tasks.templates["qa"], seed)
        self._questions, self.num_rows = questions, len(questions.items)
        self._document = tasks.sentences["document"]

    def hidden(self, draw: random.Random, length: int, row: int) -> DocumentQuestion:
        """The question of the row; nothing is drawn."""
        return self._questions.items[row]

    def asked(self, hidden: DocumentQuestion, draw: random.Random) -> RulerQuestion:
        """The question as it is."""
        return RulerQuestion({"query": hidden.text}, hidden.answers)

    def context(self, hidden: DocumentQuestion, draw: random.Random, size: int) -> str:
        """A context of `size` documents, or as many as are needed; all of them again and again if there are fewer."""
        documents = self._chosen(hidden, draw, size)
        self._shuffle(documents)
        return "\n\n".join(self._document.format(i=place, document=text) for place, text in enumerate(documents, 1))

    def step(self, length: int) -> int:
        """10 documents."""
        return 10

    def _chosen(self, question: DocumentQuestion, draw: random.Random, size: int) -> list[str]:
        pool = self._questions.documents
        if size >= len(pool):
            return [*pool * -(-size // len(pool))][:size]
        left = max(0, size - len(question.needed))
        if left <= len(question.related):
            numbers = (*question.needed, *draw.sample(question.related, left))
        else:
            known = {*question.needed, *question.related}
            others = [number for number in range(len(pool)) if number not in known]
            numbers = (*question.needed, *question.related, *draw.sample(others, left - len(question.related)))
        return [pool[number] for number in numbers]
