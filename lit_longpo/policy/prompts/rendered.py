"""A chat template's text, and where our own texts stand in it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Span = tuple[int, int]  # first character, and the one behind the last
Utterance = tuple[str, str]  # role and text


@dataclass(frozen=True)
class Rendered:
    """A rendered text, and where our own text stands in it.

    Args:
        text: all of it.
        start: where ours begins.
        end: where ours ends.
        dropped: characters (white space) that the template took away before `start`.
    """

    text: str
    start: int
    end: int
    dropped: int = 0

    def moved(self, span: Span) -> Span:
        """A stretch of our text in the rendered one, less what the template cut off."""
        offset = self.start - self.dropped
        start, end = (min(max(char + offset, self.start), self.end) for char in span)
        return start, end

    def behind(self, count: int) -> "Rendered":
        """Without its first characters, which are the template's."""
        return Rendered(self.text[count:], self.start - count, self.end - count, self.dropped)


def message(role: str, content: str) -> dict[str, str]:
    """What one side of a chat says, as chat templates and servers take it."""
    return {"role": role, "content": content}


def numbered(messages: Sequence[Utterance], system: str | None) -> dict[int, Utterance]:
    """A conversation's messages by their number, its own system message as -1."""
    return ({} if system is None else {-1: ("system", system)}) | dict(enumerate(messages))


def located(text: str, frame: str, contents: Mapping[int, str]) -> dict[int, Rendered]:
    """Where each content stands in a text whose frame, with numbered marks for contents, is known.

    Templates may take white space from a content's ends, and write contents in another order.
    """
    first, *rest = re.split("\u0000(-?\\d+)\u0000", frame)
    placed, position = dict[int, Rendered](), len(first)
    if not text.startswith(first):
        return placed
    for number, following in zip(map(int, rest[::2]), rest[1::2], strict=True):
        content = contents[number]
        bodies = (content, content.lstrip(), content.rstrip(), content.strip())
        body = next((body for body in bodies if text.startswith(body + following, position)), None)
        if number in placed or body is None:  # written twice or anew: nothing is known from here on
            return {key: where for key, where in placed.items() if key != number}
        placed[number] = Rendered(text, position, position + len(body), content.index(body))
        position += len(body) + len(following)
    return placed
