"""Cutting a document into chunks at its own borders. Pure; joined, the chunks are the document again."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from data_modules.qa_sets.contexts import CountTokens
from lit_longpo.ranges import MOST_TOKENS, check_numbers

# A line that opens a section: Markdown, LaTeX, or a numbered chapter of a book.
_HEADING = r"(?:#{1,6} |\\(?:sub)*section\*?\{|\\chapter|(?:CHAPTER|Chapter|BOOK|PART|ADVENTURE)\s+[IVXLC\d]+)"
# Such a line and the blank ones below it; of several without blank ones between them (comments) the last.
_HEADINGS = re.compile(rf"^({_HEADING}[^\n]{{0,200}})(?:\n(?!{_HEADING})\s*|\Z)", re.MULTILINE)
# Borders from coarse to fine; each match belongs to what precedes it.
_BORDERS = (
    re.compile(rf"\n[^\S\n]*\n(?>\s*)(?={_HEADING})"),
    re.compile(r"\n[^\S\n]*\n\s*"),
    re.compile(r"(?<=[.!?\u3002\uff01\uff1f])[\"'\u201d\u2019)]*\s+|(?<=[\u3002\uff01\uff1f])"),
    re.compile(r"\n"),  # rows of a table, lines of code, items of a list; a line of prose ends within its sentence
    re.compile(r"\s+"),
)
_WORDS = len(_BORDERS) - 1


@dataclass(frozen=True)
class Chunking:
    """How long chunks are.

    Args:
        max_tokens: tokens of a chunk at most.
        balance: spread the document evenly, so that no small remainder is left at its end.
    """

    max_tokens: int = 512
    balance: bool = True

    def __post_init__(self) -> None:
        check_numbers(self, "chunking.", max_tokens=(1, MOST_TOKENS))

    def split(self, text: str, count_tokens: CountTokens) -> list[str]:
        """Consecutive pieces of `text`, cut before headings where sections fit, at finer borders where not.

        Finer ones are those of paragraphs, then sentences, then lines, then words. A single word longer than
        `max_tokens` is cut between characters; one character is never cut.

        Returns:
            Chunks of at most `max_tokens` tokens (or one character), as few as whole sections allow; joined they are
            `text`, which is one chunk if it fits.
        """
        if text and count_tokens(text) <= self.max_tokens:
            return [text]
        pieces = list(_pieces(text, self.max_tokens, count_tokens))
        sizes = [count_tokens(piece) for piece in pieces]
        target, total = self.max_tokens, sum(sizes)
        if self.balance and total:
            target = -(-total // -(-total // self.max_tokens))  # both divisions round up
        return list(_join(pieces, sizes, target, self.max_tokens, count_tokens))


def _pieces(text: str, budget: int, count: CountTokens, level: int = 0) -> Iterator[str]:
    """The finest needed cuts: a piece is cut further only if it alone is too long."""
    for part in _cut(text, level):
        if len(part) == 1 or count(part) <= budget:
            yield part
        else:
            yield from _pieces(part, budget, count, level + 1)


def _cut(text: str, level: int) -> list[str]:
    if level >= len(_BORDERS):
        half = -(-len(text) // 2)
        return [text[:half], text[half:]]
    marks = {match.end() for match in _BORDERS[level].finditer(text)} - _in_headings(text, level)
    return [text[start:end] for start, end in pairwise(sorted({0, *marks, len(text)}))]


def _in_headings(text: str, level: int) -> set[int]:
    """Where no border is, so that a heading stays whole and with its text; only words of a long one are parted."""
    found = _HEADINGS.finditer(text)
    spans = ((each.end(1) if level == _WORDS else each.start(), each.end()) for each in found)
    return {place for start, end in spans for place in range(start + 1, end + 1)}


def _join(pieces: Sequence[str], sizes: Sequence[int], target: int, budget: int, count: CountTokens) -> Iterator[str]:
    """Neighbouring pieces together until the target is reached, never beyond the budget.

    Pieces have about as many tokens together as apart; a border may cost one more. So only a chunk that could be over
    the budget by its borders is counted anew. In a book of one line, that would otherwise be every chunk at every word.
    """
    start, filled, most = 0, 0, 0  # most: tokens that the chunk can have
    for number, size in enumerate(sizes):
        full = filled + size / 2 > target  # the middle of a piece decides on which side of the target it lies
        most += size + (number > start)
        if number > start and not full and most > budget:
            most = count("".join(pieces[start : number + 1]))
        if number > start and (full or most > budget):
            yield from _within(pieces[start:number], budget, count)
            start, filled, most = number, 0, size
        filled += size
    if start < len(pieces):
        yield from _within(pieces[start:], budget, count)


def _within(pieces: Sequence[str], budget: int, count: CountTokens) -> Iterator[str]:
    """The pieces as one chunk; as several, if borders cost more than that."""
    chunk = "".join(pieces)
    if len(pieces) == 1 or count(chunk) <= budget:
        yield chunk
        return
    half = len(pieces) // 2
    yield from _within(pieces[:half], budget, count)
    yield from _within(pieces[half:], budget, count)
