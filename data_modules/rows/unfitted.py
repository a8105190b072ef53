"""A group before its context is cut to fit: the prompt as text, and everything that may follow it as tokens."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

from data_modules.records import PreferencePair
from lit_longpo.batch import Context, Response
from lit_longpo.errors import InputError
from lit_longpo.policy import PromptFormat
from lit_longpo.policy.prompts.encoded_prompt import EncodedPrompt, Surroundings


@dataclass(frozen=True)
class UnfittedGroup:
    """One prompt and everything that may follow it.

    Args:
        context: which context `text` is.
        turn: number of the question that it answers; 0 for all of them in the long context.
        question: the (first) question; empty if it is in the context.
        responses: tokens after the prompt, chosen first.
        chosen_format: True where a token of the chosen response is the chat template's own.
    """

    context: Context
    turn: int
    text: str
    question: str
    responses: tuple[Response, ...]
    chosen_format: tuple[bool, ...]

    @property
    def longest(self) -> int:
        """Tokens of the longest response."""
        return max(len(response.token_ids) for response in self.responses)

    def num_tokens(self, prompt: EncodedPrompt, *, shared: bool) -> int:
        """Tokens of a row with all responses, the prompt once or once for each."""
        copies = 1 if shared else len(self.responses)
        return copies * len(prompt.ids) + sum(len(response.token_ids) for response in self.responses)


@lru_cache(maxsize=16)  # one pair's answers follow its short and its long context, and are compared with joint texts
def encode_answers(
    prompt_format: PromptFormat, conversation: tuple[tuple[str, str], ...]
) -> tuple[tuple[int, ...], tuple[bool, ...], tuple[bool, ...]]:
    """What follows the prompt of a conversation's first question: answers, later questions between them.

    Returns:
        Token ids; True where an answer's token is, which alone is scored; True where the template wrote the token.
        Shape: (tokens,) each.
    """
    ids, mask, formats = list[int](), list[bool](), list[bool]()
    for number, (question, text) in enumerate(conversation):
        if number:  # the first question is in the prompt
            between = prompt_format.encode_turn(question)
            ids += between.ids
            mask += [False] * len(between.ids)
            formats += between.format_mask
        answer = prompt_format.encode_response(text)
        ids += answer
        mask += [True] * len(answer)
        formats += [False] * len(answer)
    return tuple(ids), tuple(mask), tuple(formats)


def surroundings(pair: PreferencePair) -> Surroundings:
    """What is said around the message with the context."""
    history, followup = (
        tuple((message.role, message.content) for message in messages) for messages in (pair.history, pair.followup)
    )
    return Surroundings(pair.system, history, followup)


@contextmanager
def naming(pair: PreferencePair) -> Iterator[None]:
    """Put the record in front of what a chat template or tokenizer refuses in its texts.

    Raises:
        InputError: what was raised inside, naming the record.
    """
    try:
        yield
    except InputError as error:
        raise InputError(f"record {pair.named}: {error}") from error
