"""Requests as the policy's prompts, for generators that run it in this process."""

from collections.abc import Sequence
from dataclasses import replace

from data_modules.builders.generators.requests import Completion, Request, digest
from lit_longpo.policy import PolicyConfig, PromptFormat
from lit_longpo.policy.fingerprint import tokens_hash


class RequestPrompts:
    """The policy's chat template around the whole text of a request; each text is tokenised once."""

    def __init__(self, policy: PolicyConfig) -> None:
        self._policy = policy
        self._formats = dict[str | None, PromptFormat]()
        self._ids = dict[tuple[str | None, str], tuple[int, ...]]()

    @property
    def settings(self) -> str:
        """Settings of the chat template, which answers depend on."""
        template = self._policy.template
        return f"{template.chat}:{template.options}:{template.markup}:{template.date}"

    def identity(self) -> str:
        """Hash of the tokens of texts, and of the chat template's source: what prompts depend on beside settings."""
        prompt_format = self._policy.prompt_format()
        return digest([tokens_hash(prompt_format), getattr(prompt_format.tokenizer, "chat_template", None)])

    def format(self, system: str | None) -> PromptFormat:
        """Tokenizer and template.

        Args:
            system: a request's own system message; `None` means the policy's.
        """
        if system not in self._formats:
            chat = self._policy.template
            template = replace(chat, user="{context}{question}", system=system or chat.system)
            self._formats[system] = self._policy.prompt_format(template)
        return self._formats[system]

    def ids(self, request: Request) -> tuple[int, ...]:
        """Tokens of a request's prompt."""
        key = (request.system, request.text)  # samples of one prompt share it
        if key not in self._ids:
            self._ids[key] = self.format(request.system).encode_prompt("", request.text).ids
        return self._ids[key]

    def part_by_room(self, requests: Sequence[Request], window: int | None) -> tuple[list[Request], list[Completion]]:
        """(requests that fit, failures of those that do not).

        Beyond its window a model with rotary positions answers nonsense, one with learned positions cannot answer, and
        an engine gives up all other requests, too (vllm#16732).

        Args:
            requests: in any order, which those that fit keep.
            window: positions of the model, for prompt and answer; `None` if it does not say.
        """
        fitting, failures = list[Request](), list[Completion]()
        for request in requests:
            room, tokens = request.decoding.max_new_tokens, 0 if window is None else len(self.ids(request))
            if window is None or tokens + room <= window:
                fitting.append(request)
                continue
            error = (
                f"a prompt of {tokens:,} tokens and {room:,} of an answer exceed the {window:,} positions that the "
                "model reads; lower `max_new_tokens`, shorten the documents, or stretch the model (`policy.rope`)"
            )
            failures.append(Completion(request.id, "", prompt_tokens=tokens, error=error))
        return fitting, failures

    def forget(self) -> None:
        """Once requests are answered, so that no more tokens are held than theirs that are under way."""
        self._ids.clear()
