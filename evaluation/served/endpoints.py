"""The two ways to ask a server for greedy answers: completions of our prompts, or chat."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from evaluation.prompting import Prompt
from evaluation.served.settings import ServedCard, ServerSettings, Way
from lit_longpo.engine import until_stop_ids
from lit_longpo.errors import InputError
from lit_longpo.policy import PromptFormat
from lit_longpo.policy.prompts.rendered import message
from lit_longpo.policy.prompts.thoughts import spoken
from lit_longpo.servers import reply_text

_TAG = "</s>"  # an end token that is HTML, too
_NO_PENALTIES = {"frequency_penalty": 0.0, "presence_penalty": 0.0}


@dataclass(frozen=True)
class Abilities:
    """What a server was found to accept and to return.

    Args:
        takes_ids: prompts as token ids; else as text.
        takes_extras: fields beside OpenAI's: end tokens, repetition penalty.
        takes_penalties: OpenAI's own, which some hosted models refuse at 0, too.
        gives_ids: answers as token ids, too.
        obeys_ends: end tokens that are sent end answers.
        adds_front: it puts the tokenizer's beginning-of-text token before prompts that are text.
        counts: it says how many tokens it has read and written.
        names: the model that its replies name, if another than was asked for.
    """

    takes_ids: bool = True
    takes_extras: bool = True
    takes_penalties: bool = True
    gives_ids: bool = False
    obeys_ends: bool = False
    adds_front: bool = True
    counts: bool = True
    names: str | None = None


@dataclass(frozen=True)
class Endpoint(ABC):
    """One address of a server, and how prompts are put to it and answers read.

    Args:
        settings: of the server.
        card: of the model.
        prompt_format: tokenizer and template of the prompts.
        ends: tokens that end answers by the model's own generation settings.
        abilities: of the server.
        penalties: fields beside OpenAI's that keep its own generation settings from having a say.
    """

    settings: ServerSettings
    card: ServedCard
    prompt_format: PromptFormat
    ends: tuple[int, ...] = ()
    abilities: Abilities = Abilities()
    penalties: Mapping[str, Any] = field(default_factory=lambda: {"repetition_penalty": 1.0})

    tries: ClassVar[tuple[tuple[bool, bool], ...]]  # (takes_ids, takes_extras), the best first

    @abstractmethod
    def send(self, client: Any, prompt: Prompt) -> Any:
        """The server's reply."""

    @abstractmethod
    def raw(self, choice: Any) -> Any:
        """The text of a reply, as the server returns it."""

    @abstractmethod
    def check(self, prompt: Prompt) -> None:
        """Refuse a prompt that cannot be sent this way."""

    @abstractmethod
    def too_few(self, prompt: Prompt, num_read: int) -> bool:
        """Whether a server that has read so many tokens has not read the whole prompt, or has read another one."""

    @abstractmethod
    def text(self, choice: Any, prompt: Prompt) -> str | None:
        """The answer as a local model's would be decoded; `None` if there is none in the reply."""

    def stops(self, prompt: Prompt) -> tuple[int, ...]:
        """Tokens that end the answer to a prompt, as `answering` has them."""
        return prompt.stop_ids if prompt.only_these_stops else tuple(dict.fromkeys((*prompt.stop_ids, *self.ends)))

    def _ended(self, text: str, prompt: Prompt) -> str:
        """Up to the first end token that the server writes out (mlx-examples#489); a local answer ends before it."""
        added = self.prompt_format.tokenizer.added_tokens_decoder
        ends = [added[number].content for number in self.stops(prompt) if number in added and added[number].special]
        marks = [re.escape(end) + "$" * (end == _TAG) for end in ends]
        return re.split("|".join(marks), text, maxsplit=1)[0] if marks else text

    def _common(self, prompt: Prompt) -> dict[str, Any]:
        return {
            "model": self.card.name,
            "max_tokens": prompt.max_new_tokens,
            "temperature": 0.0,
            "top_p": 1.0,
            **(_NO_PENALTIES if self.abilities.takes_penalties else {}),
            "extra_body": {**(self._extras(prompt) if self.abilities.takes_extras else {}), **self.settings.extra_body},
        }

    def _extras(self, prompt: Prompt) -> dict[str, Any]:
        least = {"min_tokens": prompt.min_new_tokens} if prompt.min_new_tokens else {}
        return {**self.penalties, **least, "stop_token_ids": list(self.stops(prompt))}

    def _until_newline(self, text: str, prompt: Prompt) -> str:
        """Where the server was not told of the token: up to a newline that is not the first character."""
        if not prompt.only_these_stops or self.abilities.obeys_ends:
            return text
        return _first_line(text)


class Completions(Endpoint):
    """Our prompts in our template, token for token."""

    tries = ((True, True), (True, False), (False, True), (False, False))

    def send(self, client: Any, prompt: Prompt) -> Any:
        """Send a prompt to the completions address."""
        asked = list(prompt.ids) if self.abilities.takes_ids else self._as_text(prompt.ids)
        return client.completions.create(prompt=asked, **self._common(prompt))

    def send_text(self, client: Any, prompt: Prompt) -> Any:
        """A message's text as it is, from which the server makes its own tokens."""
        return client.completions.create(prompt=prompt.messages[0][1], **self._common(prompt))

    def raw(self, choice: Any) -> Any:
        """What follows the prompt."""
        return choice.text

    def _extras(self, prompt: Prompt) -> dict[str, Any]:
        return {**super()._extras(prompt), "return_token_ids": True}

    def check(self, prompt: Prompt) -> None:
        """Text that the server has to encode must become the prompt again."""
        if not self.abilities.takes_ids:
            self._as_text(prompt.ids)

    def too_few(self, prompt: Prompt, num_read: int) -> bool:
        """Any other number than its own."""
        return num_read != len(prompt.ids)

    def text(self, choice: Any, prompt: Prompt) -> str | None:
        """Decoded from the answer's tokens if the server returns them, else its text."""
        ids = getattr(choice, "token_ids", None)
        if self.abilities.gives_ids and isinstance(ids, list):
            said = until_stop_ids(ids, self.stops(prompt))
            return self.prompt_format.decode_reply(said, opened=prompt.begins_turn)
        text = self.raw(choice)
        if not isinstance(text, str):
            return None
        if text.startswith(" ") and self._drops_blank:  # as the local decoder does before the first token
            text = text[1:]
        return self._until_newline(self._ended(text, prompt), prompt)

    @property
    def _drops_blank(self) -> bool:
        last = self.prompt_format.tokenizer.encode("a a", add_special_tokens=False)[-1:]
        return not self.prompt_format.decode_whole(last).startswith(" ")

    def _as_text(self, ids: Sequence[int]) -> str:
        """What the server's tokenizer makes these tokens of."""
        tokenizer, front = self.prompt_format.tokenizer, self.prompt_format.added_in_front
        front = front if self.abilities.adds_front else ()
        text = str(tokenizer.decode(list(ids[len(front) :]), clean_up_tokenization_spaces=False))
        encoded = tokenizer(text, add_special_tokens=bool(front), verbose=False)["input_ids"]
        if tuple(encoded) != tuple(ids):
            raise InputError(
                "expected prompts whose text gives the same tokens again, because the server takes no token ids, got "
                "one that gives others (it was cut, or lacks the beginning-of-text token that the server adds); ask a "
                "server that takes token ids (vLLM, SGLang, llama.cpp), or type --server_way chat"
            )
        return text


class Chat(Endpoint):
    """The messages, in the server's own chat template."""

    tries = ((False, True), (False, False))

    def send(self, client: Any, prompt: Prompt) -> Any:
        """Send a prompt's messages to the chat completions address."""
        return client.chat.completions.create(messages=self._messages(prompt), **self._common(prompt))

    def raw(self, choice: Any) -> Any:
        """The message's content; without the thoughts, where the server keeps those apart."""
        return reply_text(choice)

    def _extras(self, prompt: Prompt) -> dict[str, Any]:
        options = self.prompt_format.template.options
        return {**super()._extras(prompt), **({"chat_template_kwargs": options} if options else {})}

    def check(self, prompt: Prompt) -> None:
        """Refuse a prompt that ends in the first words of an answer, which no message can hold.

        Raises:
            InputError: it does.
        """
        if not prompt.messages:
            raise InputError(
                "expected prompts that are messages for `server.way: chat`, got some that end in the first words of "
                "the answer; type --server_way completions"
            )

    def too_few(self, prompt: Prompt, num_read: int) -> bool:
        """Clearly fewer than the texts alone have: templates differ, and so do tokens at their borders."""
        kept = prompt.num_tokens - prompt.num_lost
        return num_read < min(0.95 * kept, kept - 32 * len(prompt.messages))

    def stops(self, prompt: Prompt) -> tuple[int, ...]:
        """Without the newline that ends a line of an answer: here it would end thoughts, too."""
        return self.prompt_format.stop_ids if prompt.only_these_stops else super().stops(prompt)

    def text(self, choice: Any, prompt: Prompt) -> str | None:
        """The answer as the server gives it; where a newline ends it, with its thoughts and one line behind them."""
        text = self.raw(choice)
        if not isinstance(text, str):
            return None
        text = self._ended(text, prompt)
        return _spoken_line(text) if prompt.only_these_stops else text

    def _messages(self, prompt: Prompt) -> list[dict[str, str]]:
        system = self.prompt_format.template.system
        own = prompt.messages[0][0] == "system"
        said = prompt.messages if system is None or own else (("system", system), *prompt.messages)
        return [message(role, text) for role, text in said]


def _first_line(text: str) -> str:
    """Up to a newline that is not the first character."""
    end = text.find("\n", 1)
    return text if end < 0 else text[:end]


def _spoken_line(text: str) -> str:
    """Up to the first newline outside of the thoughts that has something before it."""
    for start, end in spoken(text):
        part = text[start:end].lstrip() if start else text[:end]
        if (line := _first_line(part)) != part:
            return text[: end - len(part)] + line
    return text


ENDPOINTS: dict[Way, type[Endpoint]] = {"completions": Completions, "chat": Chat}
