"""What pairs are built from: question-answering files, documents, or the synthetic world."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from data_modules.builders.recipes.base import Item
from data_modules.builders.sources.chunking import Chunking
from data_modules.builders.sources.documents import (
    Document,
    Unreadable,
    clip,
    content_hash,
    document_files,
    read_documents,
)
from data_modules.builders.sources.tokens import TextTokens
from data_modules.qa_sets.formats import Format, read_corpus, read_qa
from data_modules.reading import existing_file
from data_modules.records import Passage, QARecord
from data_modules.worlds.world import Fact, Split, World


class Source(ABC):
    """Records to build from, in a fixed order."""

    @abstractmethod
    def items(self, tokens: TextTokens) -> Iterator[Item | Unreadable]:
        """Every record; what cannot be read is said, not left out."""

    def pool(self) -> Sequence[Passage]:
        """Passages to draw distractors from."""
        return ()

    def content(self) -> str:
        """Hash of what is read, beyond the settings."""
        return ""


@dataclass
class QAFiles(Source):
    """Questions with supporting passages: MuSiQue, HotpotQA, 2WikiMultihopQA or SQuAD files.

    Args:
        paths: files; identifiers have to be unique over all of them.
        format: how to read them; "auto" looks at each file's first record.
        corpus: JSON lists of {title, text} to draw distractors from; without any, the passages of the
            other questions.
    """

    paths: tuple[str, ...]
    format: Format = "auto"
    corpus: tuple[str, ...] = ()

    def items(self, tokens: TextTokens) -> Iterator[QARecord | Unreadable]:
        """Every question in file order.

        Raises:
            RecordError: a record is malformed; nothing has been generated yet.
        """
        seen = set[str]()
        for record in self._records():
            if record.id in seen:
                yield Unreadable(record.id, f"expected an id not used before in {', '.join(self.paths)}")
            else:
                yield record
            seen.add(record.id)

    def pool(self) -> list[Passage]:
        """The corpus, or all passages of all questions, each once."""
        if self.corpus:
            files = [existing_file(path, "source.init_args.corpus", "a list of {title, text}") for path in self.corpus]
            return [passage for file in files for passage in read_corpus(file)]
        return list({passage.text: passage for record in self._records() for passage in record.passages}.values())

    def content(self) -> str:
        """Hash of the files' bytes."""
        return content_hash([existing_file(path, "source.init_args", "a file") for path in (*self.paths, *self.corpus)])

    def _records(self) -> Iterator[QARecord]:
        for path in self.paths:
            file = existing_file(path, "source.init_args.paths", "a MuSiQue, HotpotQA, 2WikiMultihopQA or SQuAD file")
            yield from read_qa(file, self.format)


@dataclass
class DocumentFiles(Source):
    """Raw documents: a .txt, .md or .jsonl file, or a folder of them.

    Args:
        path: file or folder.
        text_field: field of a JSONL line that holds the text.
        start_after: regular expression of the line after which the text begins, e.g. a licence header.
        end_before: regular expression of what follows the text.
        document_tokens: cut documents into parts of at most this many tokens, at section and paragraph
            borders, each a document of its own; `None` keeps them whole.
    """

    path: str
    text_field: str = "text"
    start_after: str | None = None
    end_before: str | None = None
    document_tokens: int | None = None

    def items(self, tokens: TextTokens) -> Iterator[Document | Unreadable]:
        """Every document or part, in order."""
        for item in read_documents(document_files(self.path), self.text_field):
            if isinstance(item, Unreadable):
                yield item
                continue
            try:
                text = clip(item.text, self.start_after, self.end_before)
            except ValueError as error:
                yield Unreadable(item.id, str(error))
                continue
            yield from self._parts(item.id, text, tokens)

    def content(self) -> str:
        """Hash of the files' bytes."""
        return content_hash(document_files(self.path))

    def _parts(self, name: str, text: str, tokens: TextTokens) -> Iterator[Document | Unreadable]:
        if self.document_tokens is None:
            yield Document(name, text)
            return
        for number, part in enumerate(Chunking(self.document_tokens).split(text, tokens.count)):
            yield Document(f"{name}#{number}", part.strip())


@dataclass
class WorldQuestions(Source):
    """Questions about made-up people, which the embedded model can answer; needs no file.

    Args:
        count: questions.
        facts: passages of each question, one fact each.
        hops: facts that an answer takes.
        split: worlds of different splits are unrelated.
        seed: of the worlds.
    """

    count: int = 64
    facts: int = 128
    hops: int = 1
    split: Split = "train"
    seed: int = 0

    def items(self, tokens: TextTokens) -> Iterator[QARecord]:
        """Every question, made anew."""
        for number in range(self.count):
            world = World(self.split, self.seed * 1_000_003 + number)
            question = world.question(self.hops)
            others = [world.fact() for _ in range(max(0, self.facts - self.hops))]
            passages = [*(_passage(fact, True) for fact in question.supporting), *map(_passage, others)]
            world.random.shuffle(passages)
            yield QARecord(f"world-{number}", question.text, (question.answer,), tuple(passages))


@dataclass
class WorldDocuments(Source):
    """Documents about made-up people, two facts a paragraph.

    Args:
        count: documents.
        facts: facts of each.
        split: worlds of different splits are unrelated.
        seed: of the worlds.
    """

    count: int = 16
    facts: int = 96
    split: Split = "train"
    seed: int = 0

    def items(self, tokens: TextTokens) -> Iterator[Document]:
        """Every document, made anew."""
        for number in range(self.count):
            world = World(self.split, self.seed * 1_000_003 + number)
            facts = [world.fact().sentence for _ in range(self.facts)]
            pairs = [" ".join(facts[start : start + 2]) for start in range(0, len(facts), 2)]
            yield Document(f"world-{number}", "\n\n".join(pairs))


def _passage(fact: Fact, supporting: bool = False) -> Passage:
    return Passage("", fact.sentence, supporting)
