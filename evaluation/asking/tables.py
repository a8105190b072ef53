"""Answers side by side: for terminals, and as JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from evaluation.asking.questions import DocumentQuestions
from evaluation.asking.sides import Prepared, Reply
from evaluation.prompting import Prompt

_SHOWN = 48  # characters of a given answer


@dataclass(frozen=True)
class ModelReplies:
    """A model and what it said."""

    asked: Prepared
    replies: Sequence[Reply]


def tables(asked: DocumentQuestions, columns: Sequence[ModelReplies]) -> Iterator[Table]:
    """One for each question, with a column for each model."""
    for number, question in enumerate(asked.questions):
        shown = Table(title=Text(printable(question)), title_justify="left")
        shown.add_column("")
        for column in columns:
            shown.add_column(column.asked.side.role, overflow="fold")
        for label, cells in _rows(asked.of(number), number, columns):
            shown.add_row(label, *(Text(cell) for cell in cells))
        yield shown


def _rows(answers: Sequence[str], number: int, columns: Sequence[ModelReplies]) -> Iterator[tuple[str, list[str]]]:
    replies = [column.replies[number] for column in columns]
    yield "model", [printable(column.asked.side.name) for column in columns]
    yield "answer", [printable(reply.text) or "(nothing)" for reply in replies]
    yield "tokens of the answer", [_length(reply) for reply in replies]
    yield "tokens of the prompt", [_prompt(c.asked.prompts[number], c.asked.window) for c in columns]
    for index, text in enumerate(answers):
        label = Text(f"log-probability of\n'{printable(text)[:_SHOWN]}'")
        yield label, [f"{reply.log_probs[index]:.2f} ({reply.num_scored[index]} tokens)" for reply in replies]  # type: ignore[misc]
    if len(answers) > 1:
        yield "margin of the first", [f"{reply.margin:+.2f}" for reply in replies]


def _length(reply: Reply) -> str:
    return str(reply.num_new) if reply.finished else f"{reply.num_new}, cut off there (--max_new_tokens)"


def _prompt(prompt: Prompt, window: int | None) -> str:
    room = "" if window is None else f" of {window:,} ({len(prompt.ids) / window:.0%})"
    lost = f"; {prompt.num_lost:,} cut out of the document's middle" if prompt.num_lost else ""
    return f"{len(prompt.ids):,}{room}{lost}"


def as_json(document: str, asked: DocumentQuestions, columns: Sequence[ModelReplies]) -> dict[str, Any]:
    """What the tables say, and the whole answers."""
    questions = [
        {
            "question": question,
            "answers": list(asked.of(number)),
            "replies": {
                column.asked.side.role: {
                    **asdict(column.replies[number]),
                    "margin": column.replies[number].margin,
                    "prompt_tokens": len(column.asked.prompts[number].ids),
                    "prompt_tokens_lost": column.asked.prompts[number].num_lost,
                }
                for column in columns
            },
        }
        for number, question in enumerate(asked.questions)
    ]
    models = {c.asked.side.role: {"name": c.asked.side.name, "window": c.asked.window} for c in columns}
    return {"document": document, "models": models, "questions": questions}


def printable(text: str) -> str:
    """The text without control characters that a terminal would obey."""
    return "".join(mark if mark.isprintable() or mark in "\n\t" else "\N{REPLACEMENT CHARACTER}" for mark in text)
