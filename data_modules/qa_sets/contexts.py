"""Contexts from passages: supporting ones mixed with distractors up to a token budget. Pure functions."""

import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from data_modules.records import Passage, Span
from lit_longpo.errors import InputError

SEPARATOR = "\n\n"
_MAX_MISSES = 16  # distractors too long for what is left of a budget, in a row, before we call it full

CountTokens = Callable[[str], int]


@dataclass(frozen=True)
class AssembledContext:
    """A context and where its facts lie.

    Args:
        text: the passages, joined by blank lines.
        supporting: character spans (start, end) of the supporting passages, ascending.
        distractors: the distractors in it, in the order they were picked.
    """

    text: str
    supporting: tuple[Span, ...]
    distractors: tuple[Passage, ...]


class BudgetError(InputError):
    """The supporting passages alone are longer than the context may be."""


def passage_text(passage: Passage) -> str:
    """Title and text as they appear in a context; blank lines inside are closed up.

    Blank lines separate passages, so none may be left inside one.
    """
    text = re.sub(r"\n\s*\n", "\n", passage.text.strip())
    title = " ".join(passage.title.split())
    return f"{title}\n{text}" if title else text


def join_passages(passages: Sequence[Passage]) -> tuple[str, tuple[Span, ...]]:
    """The passages in the given order, and the character spans of the supporting ones."""
    text, spans = "", list[Span]()
    for passage in passages:
        if text:
            text += SEPARATOR
        start = len(text)
        text += passage_text(passage)
        if passage.supporting:
            spans.append((start, len(text)))
    return text, tuple(spans)


def build_context(
    supporting: Sequence[Passage],
    distractors: Iterable[Passage],
    max_tokens: int,
    count_tokens: CountTokens,
    rng: random.Random,
    max_distractors: int | None = None,
) -> AssembledContext:
    """Mix supporting passages with as many distractors as fit, in random order.

    Args:
        supporting: always kept, every one of them.
        distractors: candidates, taken in order; those too long for what is left are passed over.
        max_tokens: budget of the whole context, in tokens.
        count_tokens: tokens of a text.
        rng: decides the order of the passages.
        max_distractors: at most this many distractors; `None` means as many as fit.

    Returns:
        A context of at most `max_tokens` tokens.

    Raises:
        BudgetError: the supporting passages alone need more than `max_tokens`.
    """
    size = count_tokens(join_passages(supporting)[0])
    if size > max_tokens:
        raise BudgetError(f"expected supporting passages of at most {max_tokens} tokens, got {size}")
    filling = _pick(distractors, max_tokens - size, count_tokens, max_distractors)
    # Pieces counted apart can be a few tokens short of the whole, so the sum is checked on the whole.
    while True:
        order = [*supporting, *filling]
        rng.shuffle(order)
        text, spans = join_passages(order)
        if not filling or count_tokens(text) <= max_tokens:
            return AssembledContext(text, spans, tuple(filling))
        filling.pop()


def _pick(distractors: Iterable[Passage], budget: int, count_tokens: CountTokens, at_most: int | None) -> list[Passage]:
    filling, misses = list[Passage](), 0
    for passage in distractors:
        if misses == _MAX_MISSES or len(filling) == at_most:
            break
        cost = count_tokens(SEPARATOR + passage_text(passage))
        misses = misses + 1 if cost > budget else 0
        if cost <= budget:
            budget -= cost
            filling.append(passage)
    return filling
