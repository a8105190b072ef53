"""Whether a server has read a prompt whole: some cut what exceeds their window and say nothing (ollama#4967)."""

from collections.abc import Callable
from typing import Any

from lit_longpo.servers import num_read

_UNSEEN = 1024  # tokens that every server's window takes
_FEWER = 0.95  # of the policy's tokens: what the same tokenizer may differ by where templates trim texts
_TOGETHER = 0.9  # of what the halves have: a whole text has about as many tokens


class WholePrompts:
    """Compares the tokens that a server has read with the policy's, and where they are too few, with those of halves.

    A server need not have the policy's tokenizer, which may make more tokens of the same text. Then the two halves of
    the text, asked alone, have about as many together as the whole; of a prompt that was cut they have more.

    Args:
        count: a text's tokens by the policy's tokenizer.
    """

    def __init__(self, count: Callable[[str], int]) -> None:
        self._count = count
        self._share = 1.0  # of the policy's tokens that the server's tokenizer is known to make

    def missing(self, text: str, reply: Any, ask: Callable[[str], Any]) -> str:
        """How much the server has read of how much, if it has not read a text whole; else nothing.

        Args:
            text: the user's.
            reply: of the server.
            ask: for the server's reply to another text, of which only the tokens are looked at.
        """
        read = num_read(reply)
        if read is None or len(text.encode()) < _UNSEEN:
            return ""
        expected = self._count(text)
        if expected < _UNSEEN or read >= _FEWER * self._share * expected:
            return ""
        halves = [num_read(ask(part)) or 0 for part in (text[: len(text) // 2], text[len(text) // 2 :])]
        if read < _TOGETHER * sum(halves):
            return f"{read:,} of about {max(expected, sum(halves)):,} tokens"
        self._share = min(self._share, read / expected)
        return ""
