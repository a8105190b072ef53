"""Whether a server has read a prompt whole: some cut what exceeds their window and say nothing (ollama#4967)."""

from collections.abc import Callable
from typing import Any

from lit_longpo.servers import num_read

_UNSEEN = 1024  # tokens that every server's window takes
_FEWER = 0.95  # of the policy's tokens: what the same tokenizer may differ by where templates trim texts, or add some
_TOGETHER = 0.9  # of what the halves have: a whole text has about as many tokens


class WholePrompts:
    """Compares the tokens that a server has read with the policy's, and where they differ, with those of halves.

    A server need not have the policy's tokenizer, which may make more tokens of the same text, or fewer. The two halves
    of the text, asked alone, have about as many together as the whole; of a prompt that was cut they have more. A
    prompt of no more tokens than one that was read whole fits, too.

    Args:
        count: a text's tokens by the policy's tokenizer.
    """

    def __init__(self, count: Callable[[str], int]) -> None:
        self._count = count
        self._share = 1.0  # of the policy's tokens that the server's tokenizer is known to make at least
        self._whole = 0  # the server's tokens of the longest prompt that was compared with its halves, and read whole

    def missing(self, text: str, reply: Any, ask: Callable[[str], Any]) -> str:
        """How much the server has read of how much, if it has not read a text whole; else nothing.

        Args:
            text: the system's and the user's.
            reply: of the server.
            ask: for the server's reply to another text, of which only the tokens are looked at.
        """
        read = num_read(reply)
        if read is None or len(text.encode()) < _UNSEEN:
            return ""
        expected = self._count(text)
        if expected < _UNSEEN or self._is_whole(read, expected):
            return ""
        halves = [num_read(ask(part)) or 0 for part in (text[: len(text) // 2], text[len(text) // 2 :])]
        if read < _TOGETHER * sum(halves):
            return f"{read:,} of about {max(expected, sum(halves)):,} tokens"
        self._share, self._whole = min(self._share, read / expected), max(self._whole, read)
        return ""

    def _is_whole(self, read: int, expected: int) -> bool:
        """Whether it is known without the halves: of texts in several languages a share alone does not say."""
        has_same_tokens = _FEWER <= read / expected <= 1 / _FEWER
        return has_same_tokens or (read <= self._whole and read >= _FEWER * self._share * expected)
