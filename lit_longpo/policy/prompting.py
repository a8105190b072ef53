"""From (context, question) and answer texts to token ids, the same way in training and evaluation."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase

from lit_longpo.errors import InputError

_CONTEXT_MARK = "\u0000context\u0000"
_ANSWER_MARK = "\u0000answer\u0000"


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt in three parts, so that truncation can cut the context and nothing else.

    Args:
        head: tokens before the context.
        context: the context's tokens.
        tail: tokens after it, up to where the answer begins.
        head_format: how many of the head's first tokens the chat template wrote.
        tail_format: how many of the tail's last tokens the chat template wrote.
    """

    head: tuple[int, ...]
    context: tuple[int, ...]
    tail: tuple[int, ...]
    head_format: int = 0
    tail_format: int = 0

    @property
    def ids(self) -> tuple[int, ...]:
        """The whole prompt's tokens."""
        return self.head + self.context + self.tail

    @property
    def format_mask(self) -> tuple[bool, ...]:
        """True where the chat template wrote the token; a system message counts as part of it."""
        head, tail = min(self.head_format, len(self.head)), min(self.tail_format, len(self.tail))
        text = len(self.ids) - head - tail
        return (True,) * head + (False,) * text + (True,) * tail


@dataclass
class PromptTemplate:
    """How a context and a question become a prompt.

    Args:
        user: the user's text; must hold `{context}` and `{question}`, context first. Later questions
            about the same context get what follows `{context}`.
        system: system message; ignored (with an error) by models without a chat template.
        chat: wrap the text in the tokenizer's chat template: always, never, or when there is one.
        options: variables for the chat template, for example `{enable_thinking: false}`.
    """

    user: str = "{context}\n\n{question}"
    system: str | None = None
    chat: bool | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        context, question = self.user.find("{context}"), self.user.find("{question}")
        if context < 0 or question < context:
            raise InputError(
                "expected `user` to hold {context} and, after it, {question}; "
                f"got {self.user!r}; set `policy.template.user`"
            )

    def around(self, question: str) -> tuple[str, str]:
        """The user's text before and after the context."""
        before, _, after = self.user.partition("{context}")
        return before, after.replace("{question}", question)


class PromptFormat:
    """Turns texts into token ids with one tokenizer and one template.

    Args:
        tokenizer: any transformers tokenizer with an end-of-sequence token.
        template: how context and question are laid out.

    Raises:
        ValueError: the tokenizer lacks what the template needs.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: PromptTemplate) -> None:
        if tokenizer.eos_token_id is None:
            raise InputError(
                f"expected a tokenizer with an end-of-sequence token, got none in "
                f"{type(tokenizer).__name__}; set `eos_token` in the tokenizer's folder"
            )
        self.tokenizer = tokenizer
        self.template = template
        has_chat = getattr(tokenizer, "chat_template", None) is not None
        self.uses_chat = has_chat if template.chat is None else template.chat
        if self.uses_chat and not has_chat:
            raise InputError("`chat: true` needs a chat template, the tokenizer has none; set `chat: false`")
        if template.system is not None and not self.uses_chat:
            raise InputError("a system message needs a chat template; put the text into `user` instead")
        self.end_id = self._end_of_answer()

    def encode(self, text: str) -> tuple[int, ...]:
        """Tokens of plain text, no special tokens added."""
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def encode_prompt(self, context: str, question: str) -> EncodedPrompt:
        """Tokens of the whole prompt, in three parts that are tokenised apart."""
        before, after = self.template.around(question)
        head, _, tail = self.chat(before + _CONTEXT_MARK + after).partition(_CONTEXT_MARK)
        return self._three_parts(self._start(), head, before, self.encode(context), tail, after)

    def encode_turn(self, question: str) -> EncodedPrompt:
        """Tokens between an answer (its end token included) and the next one; there is no context."""
        _, after = self.template.around(question)
        if not self.uses_chat:
            return EncodedPrompt((), (), self.encode(after))
        after = after.lstrip()
        conversation = self.chat("", _ANSWER_MARK, _CONTEXT_MARK + after)
        between = conversation.partition(_ANSWER_MARK)[2].lstrip()
        head, _, tail = between.removeprefix(self._end_text()).partition(_CONTEXT_MARK)
        return self._three_parts((), head, "", (), tail, after)

    def encode_response(self, text: str) -> tuple[int, ...]:
        """Tokens of an answer, closed by the token that ends answers."""
        return (*self.encode(text), self.end_id)

    def decode(self, ids: list[int] | tuple[int, ...]) -> str:
        """Text of generated tokens, special tokens left out."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    def encode_jointly(self, context: str, turns: Sequence[tuple[str, str]]) -> tuple[int, ...]:
        """A whole conversation tokenised as one text, up to and with the token that ends answers.

        Ours are tokenised apart, so that responses share the prompt's tokens; where a tokenizer merges
        across the seams, or a template writes earlier turns differently, the two differ.

        Args:
            context: what the first question is about.
            turns: questions and their answers.
        """
        around = [self.template.around(question) for question, _ in turns]
        questions = [around[0][0] + context + around[0][1], *(after for _, after in around[1:])]
        answers = [answer for _, answer in turns]
        if not self.uses_chat:
            parts = [
                (*self.encode(text + answer), self.end_id) for text, answer in zip(questions, answers, strict=True)
            ]
            return (*self._start(), *itertools.chain(*parts))
        questions[1:] = [text.lstrip() for text in questions[1:]]
        messages = [
            message(role, text)
            for turn in zip(questions, answers, strict=True)
            for role, text in zip(("user", "assistant"), turn, strict=True)
        ]
        ids = self.encode(self._render([*self._system(), *messages]))
        last = len(ids) - 1 - ids[::-1].index(self.end_id) if self.end_id in ids else len(ids) - 1
        return ids[: last + 1]

    def _three_parts(
        self, start: tuple[int, ...], head: str, before: str, context: tuple[int, ...], tail: str, after: str
    ) -> EncodedPrompt:
        """Encode around the context and count what the chat template wrote beyond `before` and `after`."""
        head_format = head[: len(head) - _shared(head[::-1], before[::-1])]
        tail_format = tail[_shared(tail, after) :]
        return EncodedPrompt(
            start + self.encode(head),
            context,
            self.encode(tail),
            len(start) + len(self.encode(head_format)),
            len(self.encode(tail_format)),
        )

    def _start(self) -> tuple[int, ...]:
        bos = self.tokenizer.bos_token_id
        return () if self.uses_chat or bos is None else (bos,)

    def chat(self, user: str, *more: str) -> str:
        """The user's text, and what assistant and user say in turns after it, up to the next answer."""
        if not self.uses_chat:
            return user
        turns = [message(("assistant", "user")[number % 2], text) for number, text in enumerate(more)]
        return self._render([*self._system(), message("user", user), *turns], add_generation_prompt=True)

    def _system(self) -> list[dict[str, str]]:
        return [] if self.template.system is None else [message("system", self.template.system)]

    def _render(self, messages: list[dict[str, str]], add_generation_prompt: bool = False) -> str:
        options = {**self.template.options, "add_generation_prompt": add_generation_prompt}
        return str(self.tokenizer.apply_chat_template(messages, tokenize=False, **options))

    def _end_text(self) -> str:
        return str(self.tokenizer.convert_ids_to_tokens(self.end_id))

    def _end_of_answer(self) -> int:
        """The single token with which the chat template closes an answer; else end-of-sequence."""
        eos = int(self.tokenizer.eos_token_id)
        if not self.uses_chat:
            return eos
        conversation = self._render([*self._system(), message("user", "question"), message("assistant", _ANSWER_MARK)])
        closing = self.encode(conversation.partition(_ANSWER_MARK)[2].strip())
        return closing[0] if len(closing) == 1 else eos


def _shared(first: str, second: str) -> int:
    """Length of what both texts begin with."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


def message(role: str, content: str) -> dict[str, str]:
    """What one side of a chat says, as chat templates and servers take it."""
    return {"role": role, "content": content}
