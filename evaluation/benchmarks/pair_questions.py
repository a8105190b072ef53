"""Questions out of records of other packages: preference pairs, and questions with passages."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, Protocol

from lightning.pytorch import Trainer

from evaluation.benchmarks.questions import Passage, Question, answer_place, joined_passages
from lit_longpo.errors import InputError
from lit_longpo.policy.prompts.encoded_prompt import Surroundings
from lit_longpo.policy.prompts.thoughts import without_thoughts

Which = Literal["long", "short"]


class ChatMessage(Protocol):
    """A message."""

    role: str
    content: str


class Pair(Protocol):
    """What is read of a preference pair; of several turns the first."""

    id: str
    question: str
    short_context: str
    long_context: str
    chosen: str
    answers: Sequence[str]
    supporting: Sequence[tuple[int, int]]
    system: str | None
    history: Sequence[ChatMessage]
    followup: Sequence[ChatMessage]


class TitledPassage(Protocol):
    """A passage of a record."""

    title: str
    text: str
    supporting: bool


class PassageRecord(Protocol):
    """A question with all of its passages, the supporting ones and the others."""

    id: str
    question: str
    answers: Sequence[str]
    passages: Sequence[TitledPassage]


def questions_of(records: Iterable[Any], context: Which) -> list[Question]:
    """A question of each pair or record of passages.

    Args:
        records: alike.
        context: which context of a pair; a record of passages has one.

    Raises:
        InputError: a pair lacks that context.
    """
    return [_of_pair(item, context) if hasattr(item, "long_context") else _of_passages(item) for item in records]


def _of_pair(pair: Pair, context: Which) -> Question:
    text = getattr(pair, f"{context}_context")
    if not text:
        raise InputError(
            f"expected a {context} context in the record {pair.id!r}, got none; set `context` to the other"
        )
    preferred = without_thoughts(pair.chosen)  # as answers to be compared with it are
    answers = tuple(pair.answers) or ((preferred,) if preferred else ())
    depth = pair.supporting[0][0] / len(text) if pair.supporting and context == "long" else answer_place(answers, text)
    return Question(
        id=pair.id,
        question=pair.question,
        answers=answers,
        context=text,
        depth=depth,
        is_gold=bool(pair.answers),
        around=_around(pair),
        about=_about(pair),
    )


def _about(pair: Pair) -> tuple[str, str]:
    facts = "\n".join(pair.long_context[start:end] for start, end in pair.supporting)
    return pair.long_context or pair.short_context, facts


def _around(pair: Pair) -> Surroundings:
    history, followup = (tuple((item.role, item.content) for item in said) for said in (pair.history, pair.followup))
    return Surroundings(pair.system, history, followup)


def _of_passages(record: PassageRecord) -> Question:
    text, depth, about = joined_passages(Passage(item.title, item.text, item.supporting) for item in record.passages)
    return Question(record.id, record.question, tuple(record.answers), text, depth, about=about)


def _distinct(questions: list[Question], split: str) -> list[Question]:
    """The questions, if no two have one id: answers are told apart by it."""
    names = Counter(item.id for item in questions)
    if twice := next((name for name, times in names.items() if times > 1), None):
        raise InputError(
            f"expected an id of its own for every pair of the {split} split, got {twice!r} {names[twice]} times; "
            "name the pairs apart in your data module's `pairs`"
        )
    return questions


def holds_none_out(data: Any) -> bool:
    """Whether a data module is told to keep no pairs for validation, and has none.

    Args:
        data: with `pairs` and `val_fraction`, or a mixture of such `sources`; any other holds out what it likes.
    """
    sources = getattr(data, "sources", None)
    parts = list(sources.values()) if isinstance(sources, dict) else [data]
    return all(getattr(part, "val_fraction", None) == 0 for part in parts) and not data.pairs("val")


class ValidationQuestions:
    """The questions of a run's own validation pairs; they are there once the run has been set up.

    Args:
        context: which context of a pair.
        first: as in `QA`. Pairs that come from a file too large for memory are read no further than that, so that a
            context has those of its questions that stand before that place.
    """

    def __init__(self, context: Which = "long", first: int | None = None) -> None:
        self.context, self.first = context, first
        self._found: list[Question] | None = None

    def read(self, trainer: Trainer, split: str) -> None:
        """Take the pairs of the trainer's data module.

        Raises:
            InputError: it has no pairs in that split, or two of one id.
        """
        data = trainer.datamodule  # type: ignore[attr-defined]
        pairs: Callable[[str], Sequence[Any]] | None = getattr(data, "pairs", None)
        records = pairs(split) if pairs is not None else ()
        found = list(self._asked(records))
        if not found:
            raise InputError(
                f"expected pairs in the {split} split of {type(data).__name__} to ask about, got none; hold some "
                "out (`data.init_args.val_fraction: 0.1`; 0 asks none), or name a file of questions in QACallback's "
                "`path`"
            )
        self._found = _distinct(found, split)

    def _asked(self, records: Sequence[Any]) -> Iterator[Question]:
        """All of a list, of which `QA` takes what it asks; of what is read as it is gone through, no more contexts."""
        contexts, end = set[str](), None if isinstance(records, list) else self.first
        for number, question in enumerate(map(self._question, records)):
            about = question.whole or question.id
            if end is not None and number >= end and about not in contexts:
                return
            contexts.add(about)
            yield question

    def _question(self, record: Any) -> Question:
        return questions_of([record], self.context)[0]

    def questions(self) -> Iterable[Question]:
        """What `read` found."""
        assert self._found is not None, "a callback reads them in `setup`"
        return self._found
