"""A prompt as tokens in three parts, and the other messages of a conversation around it."""

from dataclasses import dataclass

from lit_longpo.policy.prompts.rendered import Utterance


@dataclass(frozen=True)
class Surroundings:
    """What is said around the message with the context, in a record of its own.

    Args:
        system: the system message; `None` for that of the template.
        history: roles and texts before that message.
        followup: roles and texts behind it and before the answer; the user has the last word.
    """

    system: str | None = None
    history: tuple[Utterance, ...] = ()
    followup: tuple[Utterance, ...] = ()


ALONE = Surroundings()


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt in three parts, so that truncation can cut the context and nothing else.

    Args:
        head: tokens before the context.
        context: the context's tokens.
        tail: tokens after it, up to where the answer begins.
        head_format: True where the chat template wrote a token of the head; empty if it wrote none.
        tail_format: likewise of the tail.
    """

    head: tuple[int, ...]
    context: tuple[int, ...]
    tail: tuple[int, ...]
    head_format: tuple[bool, ...] = ()
    tail_format: tuple[bool, ...] = ()

    @property
    def ids(self) -> tuple[int, ...]:
        """The whole prompt's tokens."""
        return self.head + self.context + self.tail

    @property
    def format_mask(self) -> tuple[bool, ...]:
        """True where the chat template wrote the token; a system message counts as part of it."""
        head = self.head_format or (False,) * len(self.head)
        return head + (False,) * len(self.context) + (self.tail_format or (False,) * len(self.tail))
