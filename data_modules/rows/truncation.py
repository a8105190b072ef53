"""The rule for sequences that are too long: refuse them, leave them out, or cut their context.

Only the context is ever cut. Question, answers and the text around them stay whole.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from data_modules.qa_sets.contexts import SEPARATOR, CountTokens
from data_modules.records import PreferencePair, Span
from lit_longpo.errors import InputError
from lit_longpo.ranges import MOST_TOKENS, check_range

OnOverlength = Literal["error", "truncate", "skip"]
Truncation = Literal["middle", "passages"]


class OverlengthError(InputError):
    """A sequence is too long and may not, or cannot, be cut."""


@dataclass(frozen=True)
class LengthPolicy:
    """The rule for sequences that are too long.

    Args:
        max_length: tokens of one sequence, prompt and longest response; `None` means any length.
        on_overlength: refuse the data (`error`), cut the context, or leave the example out.
        truncation: cut in the middle of the context, or drop whole distractor passages.
    """

    max_length: int | None = None
    on_overlength: OnOverlength = "error"
    truncation: Truncation = "middle"

    def __post_init__(self) -> None:
        if self.max_length is not None:
            hint = "set it to the model's window, or to null"
            check_range("data.init_args.max_length", self.max_length, hint, at_least=2, at_most=MOST_TOKENS)


@dataclass
class SplitLengths:
    """What the length policy did to one split; each counts what it says.

    Args:
        examples: examples read.
        cut: examples kept with at least one context cut.
        skipped: examples left out.
        tokens_lost: context tokens cut away.
        supporting_lost: supporting passages that lost at least one token.
        reach: positions that the longest sequence of the policy takes.
    """

    examples: int = 0
    cut: int = 0
    skipped: int = 0
    tokens_lost: int = 0
    supporting_lost: int = 0
    reach: int = 0

    def __str__(self) -> str:
        return (
            f"{self.examples:,} examples, {self.cut:,} cut, {self.skipped:,} skipped, "
            f"{self.tokens_lost:,} tokens and {self.supporting_lost:,} supporting passages lost"
        )


def cut_middle(ids: Sequence[int], max_tokens: int) -> tuple[int, ...]:
    """The first and last tokens, `max_tokens` in all; the first half gets the odd one."""
    if len(ids) <= max_tokens:
        return tuple(ids)
    tail = max_tokens // 2
    return (*ids[: max_tokens - tail], *ids[len(ids) - tail :])


def spans_hit(text: str, spans: Sequence[Span], num_ids: int, max_tokens: int, count_tokens: CountTokens) -> int:
    """Number of spans that `cut_middle` takes a token from.

    Token positions come from counting the text before and inside a span, so a span that ends within
    a token or two of the cut may be counted as hit.
    """
    # What `cut_middle` takes out, in token positions.
    lost_start, lost_end = max_tokens - max_tokens // 2, num_ids - max_tokens // 2
    hits = 0
    for start, end in spans:
        first = count_tokens(text[:start])
        hits += first < lost_end and first + count_tokens(text[start:end]) > lost_start
    return hits


def drop_passages(
    text: str, spans: Sequence[Span], max_tokens: int, count_tokens: CountTokens, seed: str
) -> str | None:
    """The context without as many distractor passages as it takes to fit, supporting ones kept.

    Passages are what blank lines separate. Which distractors go is random, so that the supporting
    passages keep their relative depth on average.

    Returns:
        The shorter context; `None` if the supporting passages alone are too long.
    """
    passages, position = list[tuple[str, bool]](), 0
    for passage in text.split(SEPARATOR):
        end = position + len(passage)
        passages.append((passage, any(start < end and stop > position for start, stop in spans)))
        position = end + len(SEPARATOR)
    rest = dict(enumerate(passage for passage, _ in passages))
    removable = [i for i, (_, supporting) in enumerate(passages) if not supporting]
    random.Random(seed).shuffle(removable)
    excess = count_tokens(text) - max_tokens
    while excess > 0 and removable:
        excess -= count_tokens(SEPARATOR + rest.pop(removable.pop()))
        if excess <= 0 or not removable:  # counted apart, pieces can differ from the whole by a token or two
            excess = count_tokens(SEPARATOR.join(rest.values())) - max_tokens
    return SEPARATOR.join(rest.values()) if excess <= 0 else None


def supporting_spans(pair: PreferencePair, text: str) -> tuple[Span, ...]:
    """Character spans of the supporting passages in one of the pair's contexts, ascending.

    The record holds those of the long context; short ones contain the same passages.
    """
    if text == pair.long_context:
        return pair.supporting
    passages = [pair.long_context[start:end] for start, end in pair.supporting]
    starts = [(text.find(passage), len(passage)) for passage in passages]
    return tuple(sorted((start, start + n) for start, n in starts if start >= 0))


def too_long(pair: PreferencePair, context: str, length: int, limit: int, room: int) -> OverlengthError:
    """The error about a record whose sequence may not, or cannot, be cut.

    Args:
        pair: the record.
        context: of which kind.
        length: tokens of the sequence.
        limit: how many it may have.
        room: tokens that are left for the context.
    """
    advice = "set `data.init_args.on_overlength` to truncate or skip, or raise `data.init_args.max_length`"
    if room < 1:
        advice = (
            "what stands around the context (question, answer, system message, other messages) fills it alone, and "
            "only the context is ever cut (in a conversation the longest message of the user): raise "
            "`data.init_args.max_length`, set `data.init_args.on_overlength: skip`, or move a document out of the "
            "system message into the user's"
        )
    return OverlengthError(
        f"expected at most {limit} tokens in prompt and longest answer of record {pair.named} "
        f"({context} context), got {length}; {advice}"
    )
