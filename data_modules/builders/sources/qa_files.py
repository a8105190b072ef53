"""Questions with passages from question-answering files."""

from collections.abc import Iterator
from dataclasses import dataclass

from data_modules.builders.sources.base import Source, content_hash
from data_modules.builders.sources.tokens import TextTokens
from data_modules.files.record_files import existing_file
from data_modules.qa_sets.formats import QAFormat, read_corpus, read_qa
from data_modules.records import Passage, QARecord
from data_modules.splitting import first_of
from lit_longpo.errors import InputError
from lit_longpo.ranges import MOST_TOKENS, check_numbers


@dataclass
class QAFiles(Source):
    """Questions with supporting passages: MuSiQue, HotpotQA, 2WikiMultihopQA or SQuAD files, or plain questions.

    Plain ones are records with `question`, `answers` and `context`, or `passages` of `title`, `text` and `supporting`.

    Args:
        paths: files; identifiers have to be unique over all of them.
        format: how to read them; "auto" looks at each file's first record.
        corpus: JSON lists of {title, text} to draw distractors from; without any, the passages of the
            other questions.
        first: ask the first contexts, with all of their questions, until there are so many questions; the passages of
            the others still fill long contexts.
    """

    paths: tuple[str, ...]
    format: QAFormat = "auto"
    corpus: tuple[str, ...] = ()
    first: int | None = None

    def __post_init__(self) -> None:
        check_numbers(self, "source.init_args.", first=(1, MOST_TOKENS))

    def items(self, tokens: TextTokens) -> Iterator[QARecord]:
        """Every question in file order.

        Raises:
            RecordError: a record is malformed; nothing has been generated yet.
            InputError: there is one passage in all, so nothing that a long context could be made of.
        """
        records = list(self._records())
        if not self.corpus and len({passage.text for record in records for passage in record.passages}) < 2:
            raise InputError(
                f"expected at least two passages in {', '.join(self.paths)}, because those of other questions make the "
                "long contexts, got the same for all; add questions about others, or type --source.corpus '[FILE]', a "
                "JSON list of {title, text}"
            )
        yield from first_of(records, self.first)

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
