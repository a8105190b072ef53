"""From (context, question) and answer texts to token ids, the same way in training and evaluation."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

_CONTEXT_MARK = "\u0000context\u0000"


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt in three parts, so that truncation can cut the context and nothing else."""

    head: tuple[int, ...]
    context: tuple[int, ...]
    tail: tuple[int, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        """The whole prompt's tokens."""
        return self.head + self.context + self.tail


@dataclass
class PromptTemplate:
    """How a context and a question become a prompt.

    Args:
        user: the user's text; must hold `{context}` and `{question}`, context first.
        system: system message; ignored (with an error) by models without a chat template.
        chat: wrap the text in the tokenizer's chat template: always, never, or when there is one.
    """

    user: str = "{context}\n\n{question}"
    system: str | None = None
    chat: bool | None = None

    def __post_init__(self) -> None:
        context, question = self.user.find("{context}"), self.user.find("{question}")
        if context < 0 or question < context:
            raise ValueError(
                "expected `user` to hold {context} and, after it, {question}; "
                f"got {self.user!r}; set `policy.template.user`"
            )


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
            raise ValueError(
                f"expected a tokenizer with an end-of-sequence token, got none in "
                f"{type(tokenizer).__name__}; set `eos_token` in the tokenizer's folder"
            )
        self.tokenizer = tokenizer
        self.template = template
        has_chat = getattr(tokenizer, "chat_template", None) is not None
        self.uses_chat = has_chat if template.chat is None else template.chat
        if self.uses_chat and not has_chat:
            raise ValueError("`chat: true` needs a chat template, the tokenizer has none; set `chat: false`")
        if template.system is not None and not self.uses_chat:
            raise ValueError("a system message needs a chat template; put the text into `user` instead")

    def encode(self, text: str) -> tuple[int, ...]:
        """Tokens of plain text, no special tokens added."""
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def encode_prompt(self, context: str, question: str) -> EncodedPrompt:
        """Tokens of the whole prompt, in three parts that are tokenised apart."""
        before, _, after = self.template.user.partition("{context}")
        user = before + _CONTEXT_MARK + after.replace("{question}", question)
        head, _, tail = self._wrap(user).partition(_CONTEXT_MARK)
        return EncodedPrompt(self._start() + self.encode(head), self.encode(context), self.encode(tail))

    def encode_response(self, text: str) -> tuple[int, ...]:
        """Tokens of an answer, closed by the end-of-sequence token."""
        return (*self.encode(text), self.tokenizer.eos_token_id)

    def decode(self, ids: list[int] | tuple[int, ...]) -> str:
        """Text of generated tokens, special tokens left out."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    def _start(self) -> tuple[int, ...]:
        bos = self.tokenizer.bos_token_id
        return () if self.uses_chat or bos is None else (bos,)

    def _wrap(self, user: str) -> str:
        if not self.uses_chat:
            return user
        system = [] if self.template.system is None else [{"role": "system", "content": self.template.system}]
        messages = [*system, {"role": "user", "content": user}]
        return str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
