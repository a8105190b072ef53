"""What data from other trainers writes around an answer: the marks of a whole text, or of a turn."""

from collections.abc import Collection


def unframed(text: str, ends: Collection[str], start: str | None) -> str:
    """The answer without ends of its own; where it has one, without the beginning of a text, too.

    `</s>` also closes what HTML strikes out, `Write <s>so</s>`. What is struck out from the first to the last character
    is taken for a text in its marks, which is how tokenizers write one: nobody's answer is struck out as a whole.

    Args:
        text: of a record.
        ends: marks that end answers or texts.
        start: the mark that texts begin with; `None` if there is none.
    """
    framed = text.strip()
    if start and framed.startswith(start):
        inside = framed.removeprefix(start)
        answer = _without_ends(inside, ends)
        if answer != inside and not any(mark in answer for mark in (start, *ends)):
            return answer.removeprefix(" ")  # Llama 2's tokenizer puts one behind its mark
    return _without_ends(text, ends)


def _without_ends(text: str, ends: Collection[str]) -> str:
    while closed := [end for end in ends if text.rstrip().endswith(end) and not _closes_markup(text, end)]:
        text = text.rstrip().removesuffix(closed[0])
    return text


def _closes_markup(text: str, end: str) -> bool:
    """Whether what ends a text stands there for itself."""
    opening = end.replace("</", "<", 1)
    return opening != end and text.count(opening) >= text.count(end)
