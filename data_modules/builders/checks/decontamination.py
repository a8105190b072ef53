"""Keeping evaluation questions out of training pairs, by n-gram overlap with named files."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from data_modules.builders.recipes.base import DroppedError
from data_modules.builders.sources.base import content_hash
from data_modules.files.record_files import existing_file
from data_modules.qa_sets.matching import ngrams, normalise, words_of
from lit_longpo.errors import InputError
from lit_longpo.files.json_files import json_lines, json_list
from lit_longpo.files.strict_json import RecordError
from lit_longpo.ranges import MOST, check_numbers

Gram = tuple[str, ...]
Index = dict[Gram, list[Gram]]  # the n-grams of evaluation texts, each with the whole texts that begin with it


@dataclass
class Decontamination:
    """Drops what overlaps with evaluation files.

    Args:
        files: .jsonl or .json files of an evaluation set.
        question_fields: fields that hold its questions; where records nest them, at any depth.
        answer_fields: fields that hold its answers.
        n: words of an n-gram; a shorter text counts as one n-gram.
        max_share: n-grams of a text that an evaluation text of the same kind also has, as a share of all. A text that
            holds a whole evaluation text of `n` words or more overlaps whatever stands around that.
        min_answer_words: answers with fewer words ("Paris") coincide by nature; they are counted, not dropped.
    """

    files: tuple[str, ...]
    question_fields: tuple[str, ...] = ("question", "input")
    answer_fields: tuple[str, ...] = ("answer", "answers")
    n: int = 8
    max_share: float = 0.5
    min_answer_words: int = 8

    def __post_init__(self) -> None:
        check_numbers(self, "decontamination.", n=(1, MOST), max_share=(0, 1), min_answer_words=(0, MOST))
        self._evaluation_grams: dict[str, Index] = {}

    def content(self) -> str:
        """Hash of the files' bytes."""
        return content_hash([self._path(file) for file in self.files])

    def read(self) -> None:
        """Read the questions and answers of the files, if that is not done yet.

        Raises:
            MissingFileError: a file is not there.
            RecordError: a file cannot be read.
            InputError: a file has no question in the named fields.
        """
        if self._evaluation_grams:
            return
        rows = {file: list(_rows(self._path(file))) for file in self.files}
        asked = {file: list(_texts(some, self.question_fields)) for file, some in rows.items()}
        none = not any(map(any, asked.values()))  # a file of them may ask nothing: LongBench's `input` of summaries
        without = [file for file, texts in asked.items() if none or not texts]
        if without:
            raise InputError(
                f"expected questions in the fields {', '.join(self.question_fields)} of {', '.join(without)}, "
                "got none; set `decontamination.question_fields`"
            )
        answers = _texts(list(rows.values()), self.answer_fields)
        self._evaluation_grams["question"] = self._indexed(chain.from_iterable(asked.values()))
        self._evaluation_grams["answer"] = self._indexed(answers)

    def check(self, question: str, answers: Sequence[str], counts: Counter[str]) -> None:
        """Compare one question and its answers.

        Raises:
            DroppedError: one of them overlaps.
        """
        self.read()
        grams = self._evaluation_grams
        if self._overlap(question, grams["question"]) > self.max_share:
            raise DroppedError("the question overlaps with an evaluation file")
        for answer in answers:
            if self._overlap(answer, grams["answer"]) > self.max_share:
                if len(_words(answer)) >= self.min_answer_words:
                    raise DroppedError("an answer overlaps with an evaluation file")
                counts["short answers that also occur in an evaluation file (kept)"] += 1

    def _overlap(self, text: str, evaluation: Index) -> float:
        """N-grams of the text that evaluation texts have too, as a share of all; 1 if it holds one of these whole."""
        words = _words(text)
        grams = ngrams(words, self.n)
        if any(_stands(words, start, evaluation.get(gram, ())) for start, gram in enumerate(grams)):
            return 1.0
        return sum(gram in evaluation for gram in grams) / len(grams) if grams else 0.0

    def _indexed(self, texts: Iterable[str]) -> Index:
        index = Index()
        for words in map(_words, texts):
            for number, gram in enumerate(ngrams(words, self.n)):
                begun = index.setdefault(gram, [])
                if number == 0 and len(words) >= self.n:
                    begun.append(tuple(words))
        return index

    def _path(self, file: str) -> Path:
        return existing_file(file, "decontamination.files", "evaluation records")


def _stands(words: Sequence[str], start: int, wholes: Iterable[Gram]) -> bool:
    """Whether all of one of these stands there."""
    return any(tuple(words[start : start + len(whole)]) == whole for whole in wholes)


def _words(text: str) -> list[str]:
    return words_of(normalise(text))


def _rows(file: Path) -> Iterator[object]:
    read = {".jsonl": json_lines, ".json": json_list}.get(file.suffix)
    if read is None:
        raise RecordError.at(str(file), "file", "a .json or .jsonl file", file.suffix)
    yield from (value for _, value in read(file))


def _texts(value: object, names: Sequence[str], inside: bool = False) -> Iterator[str]:
    """Every text at or below one of the named fields."""
    if isinstance(value, str) and inside:
        yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _texts(item, names, inside or name in names)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, names, inside)
