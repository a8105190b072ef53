"""Removes the marks that other trainers' data write around an answer: those of a whole text, or of a turn."""

from collections.abc import Collection
from dataclasses import dataclass

from lit_longpo.errors import InputError
from lit_longpo.files.plain_text import is_blank


@dataclass(frozen=True)
class AnswerFrame:
    """The marks that may stand around an answer and are no part of it.

    Args:
        opening: parts of what opens an answer in the chat template.
        ends: marks that end answers or texts.
        start: the mark that texts begin with; `None` if there is none.
    """

    opening: tuple[str, ...]
    ends: frozenset[str]
    start: str | None

    def inside(self, text: str) -> str:
        """The answer without the marks around it; the mark of a text's beginning only goes if its end is there too.

        `</s>` also closes what HTML strikes out, `Write <s>so</s>`. What is struck out from the first to the last
        character is taken for a text in its marks, which is how tokenizers write one: nobody's answer is struck out
        as a whole.
        """
        for part in self.opening:
            if part.strip() and text.lstrip().startswith(part.strip()):
                text = text.lstrip().removeprefix(part.strip()).removeprefix(part[len(part.rstrip()) :])
        framed = text.strip()
        if self.start and framed.startswith(self.start):
            inside = framed.removeprefix(self.start)
            answer = _without_ends(inside, self.ends)
            if answer != inside and not any(mark in answer for mark in (self.start, *self.ends)):
                return answer.removeprefix(" ")  # Llama 2's tokenizer puts one behind its mark
        return _without_ends(text, self.ends)

    def said(self, text: str) -> str:
        """As `inside`, but refuses an answer that consists of marks alone; a plainly empty answer may be meant.

        Raises:
            InputError: there is nothing but marks.
        """
        said = self.inside(text)
        if not is_blank(text) and is_blank(said):
            raise InputError(f"expected an answer with text in it, got {text.strip()!r:.60}, which only ends one")
        return said


def _without_ends(text: str, ends: Collection[str]) -> str:
    while closed := [end for end in ends if text.rstrip().endswith(end) and not _closes_markup(text, end)]:
        text = text.rstrip().removesuffix(closed[0])
    return text


def _closes_markup(text: str, end: str) -> bool:
    """Whether what ends a text stands there for itself."""
    opening = end.replace("</", "<", 1)
    return opening != end and text.count(opening) >= text.count(end)
