"""A model behind a server as an answerer of benchmarks."""

import hashlib
import json
import logging
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from transformers import GenerationConfig

from evaluation.prompting import Prompt
from evaluation.running.answerers import Answerer, GivenAnswer, Texts
from evaluation.running.batching import Batching, PromptedExample
from evaluation.running.facts import CHAT, OF_SERVER, shown_tokens
from evaluation.served.endpoints import ENDPOINTS, Endpoint
from evaluation.served.probing import probe_server
from evaluation.served.settings import ServerSettings, find_card
from lit_longpo.engine.generation.settings import ends_of, greedy_of
from lit_longpo.errors import InputError, UnreachableError
from lit_longpo.files.plain_text import is_blank
from lit_longpo.policy import PolicyConfig, PromptFormat
from lit_longpo.policy.window import readable_positions
from lit_longpo.servers import (
    CUT_OFF,
    ENDED,
    Connection,
    Failure,
    at_limit,
    beyond_limit,
    ending,
    keeps_thoughts_apart,
    num_read,
    num_written,
    other_model,
    whole_characters,
)

log = logging.getLogger(__name__)

_SENT = ("repetition_penalty",)  # of the settings that `generate` knows, those that servers know, too
_STILL_THINKING = (
    "some answers are empty, as the model was still thinking when its tokens were over; they score so: type "
    "--server.extra_body '{chat_template_kwargs: {enable_thinking: false}}', or raise the answers' tokens"
)
_LOST = (
    "some answers are empty though the model ended them itself and wrote tokens: the server took all of them for "
    "thoughts, or lost them; they score so: serve it without a reasoning parser, or type --server_way completions"
)
_END_OF_TURN = 2  # tokens
_PORTION = 4  # times the questions under way, between two looks at the clock


@dataclass(frozen=True)
class ServedModel(Answerer):
    """A model behind an OpenAI-compatible server.

    Args:
        connection: to the server.
        endpoint: how it is asked.
        source: where the tokenizer comes from.
        own_window: positions that the model can read by its files; `None` if they do not say.
        generation: settings in the model's files.
    """

    connection: Connection
    endpoint: Endpoint
    source: str
    own_window: int | None
    generation: GenerationConfig
    _told: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    @classmethod
    def reach(cls, settings: ServerSettings, policy: PolicyConfig, prompt_format: PromptFormat) -> "ServedModel":
        """Find the model on the server, and find out how it can be asked.

        Args:
            settings: of the server.
            policy: whose files tell window, end tokens and generation settings; no weights are read.
            prompt_format: its tokenizer and template.

        Raises:
            UnreachableError: nobody answers there, or refuses the key.
            InputError: it has no such model, or one with another tokenizer.
            MissingPackageError: the client is not installed.
        """
        connection, generation = Connection(settings.server), policy.files.generation()
        card = find_card(connection, settings.model)
        endpoint = ENDPOINTS[settings.way](settings, card, prompt_format, ends_of(generation))
        endpoint = replace(endpoint, abilities=probe_server(connection, endpoint, policy.source))
        made = cls(connection, endpoint, policy.source, readable_positions(policy.config()), generation)
        log.info("asking %s at %s: %s", card.name, connection.server.shown, made.way)
        return made

    @property
    def name(self) -> str:
        """The model's name in reports."""
        return f"{self.endpoint.card.name} at {self.connection.server.shown}"

    @property
    def way(self) -> str:
        """How it is asked, in words."""
        if self.endpoint.settings.way == "chat":
            return "chat completions"
        can = self.endpoint.abilities
        sent, given = ("token ids" if ids else "text" for ids in (can.takes_ids, can.gives_ids))
        return f"completions, prompts as {sent}, answers as {given}"

    @property
    def gives_thoughts(self) -> bool:  # type: ignore[override]  # frozen fields are no place for it
        """Chat servers may keep them apart, and the rest of the answer holds no sign of it."""
        return self.endpoint.settings.way != "chat"

    @property
    def window(self) -> int | None:
        """The server's, where it states one."""
        return self.endpoint.card.window or self.own_window

    @property
    def ends(self) -> tuple[int, ...]:
        """Tokens that end an answer by the generation settings in the model's files."""
        return ends_of(self.generation)

    @property
    def own_settings(self) -> Mapping[str, Any]:
        """The generation settings in the model's files that change its most likely answer."""
        return greedy_of(self.generation)

    @property
    def fingerprint(self) -> str:
        """Hash of the names of the model and its files; nobody sees the weights, and a server may move."""
        settings, card = self.endpoint.settings, self.endpoint.card
        text = json.dumps(["served", card.name, card.root, settings.way, settings.extra_body], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def deviations(self) -> tuple[str, ...]:
        """What only the server knows, and how its answers may differ from a local model's."""
        can, own, served = self.endpoint.abilities, self.own_window, self.endpoint.card.window
        more = [token for token in self.endpoint.prompt_format.stop_ids if token not in self.ends]
        names = shown_tokens(more, self.endpoint.prompt_format)
        also = f" and not at {names}" if more else ""
        chat = self.endpoint.settings.way == "chat"
        said = {
            f"answered by a server through {self.way}; its weights and precision are not known here": True,
            "asked in the server's chat template, also where the protocol asks plainly": chat,
            f"the server sees to the end of answers{also}, however short; a newline that ends one is cut in its text": (
                not can.obeys_ends
            ),
            "a repetition penalty is the server's own": not can.takes_extras,
            "whether the server reads a repetition penalty is not known": can.takes_extras and not can.obeys_ends,
            "frequency and presence penalties are the server's own": not can.takes_penalties,
            "the server does not count tokens: whether it cuts prompts is not known": not can.counts,
            f"the server's replies name the model {can.names}, not {self.endpoint.card.name}": can.names is not None,
            f"the server reads {served} positions, the model {own}": None not in (served, own) and served != own,
        }
        return tuple(text for text, holds in said.items() if holds)

    def facts(self, prompt_format: PromptFormat) -> Mapping[str, object]:
        """The server (in place of a device), how it is asked, and the end tokens."""
        card = self.endpoint.card
        return {
            **({CHAT: OF_SERVER} if self.endpoint.settings.way == "chat" else {}),
            "dtype": "the server's",
            "device": f"server {self.connection.server.shown}",
            "served model": card.name if card.root in (None, card.name) else f"{card.name} ({card.root})",
            "asked through": self.way,
            "tokenizer": self.source,
            **({"extra body": dict(self.endpoint.settings.extra_body)} if self.endpoint.settings.extra_body else {}),
            "end tokens": shown_tokens((*prompt_format.stop_ids, *self.ends), prompt_format),
        }

    def check_generation(self, generation: Mapping[str, Any]) -> None:
        """Refuse generation settings that a server cannot be told: it knows a repetition penalty only."""
        # What takes unknown fields and reads none (llama.cpp, Ollama) does not obey end tokens either.
        unknown = [name for name in generation if name not in _SENT or not self.endpoint.abilities.obeys_ends]
        if unknown:
            raise InputError(
                f"expected `protocol: served` for a server that cannot be told of {', '.join(unknown)}, got official; "
                "type --protocol served"
            )

    def check_prompt(self, prompt: Prompt) -> None:
        """Refuse a prompt that cannot be sent to the server as it is."""
        self.endpoint.check(prompt)

    def portion(self, asked: Iterator[PromptedExample], batching: Batching) -> list[PromptedExample]:
        """Enough prompts to keep the server busy."""
        return list(islice(asked, _PORTION * self.connection.server.concurrency))

    def answers(
        self,
        prompts: Sequence[Prompt],
        prompt_format: PromptFormat,
        batching: Batching,
        *,
        seed: int | None = None,
        generation: Mapping[str, Any] | None = None,
    ) -> Generator[Texts, None, None]:
        """Yields answers one by one as they come in; asked in order, so that a server can cache shared contexts.

        Raises:
            UnreachableError: the server is gone, or cuts prompts or answers.
        """
        penalties = {**self.endpoint.penalties, **(generation or {})}
        endpoint = replace(self.endpoint, penalties=penalties)
        replies = self.connection.ask_all(
            range(len(prompts)), lambda client, number: endpoint.send(client, prompts[number])
        )
        for number, reply in replies:
            yield {number: self._given_answer(reply, prompts[number])}

    def _given_answer(self, reply: Any, prompt: Prompt) -> GivenAnswer | None:
        """The answer; `None` for a failed request, with a warning."""
        if isinstance(reply, Failure):
            log.warning("no answer: %s", reply.error)
            return None
        choice = reply.choices[0]
        self._check_whole(reply, prompt)
        if (other := other_model(reply, self.endpoint.card.name)) is not None:
            self._warn_once(
                f"asked for {self.endpoint.card.name}, replies name {other}: see that no other model answers"
            )
        reason = ending(choice)
        text = self.endpoint.text(choice, prompt) if reason in (ENDED, CUT_OFF) else None
        if text is None:
            log.warning("no answer: expected a text that is finished, got %.200r", choice)
        is_empty = text is not None and is_blank(text)  # vLLM's parsers leave the line breaks behind thoughts
        if is_empty and reason == ENDED and _wrote_something(reply):
            self._warn_once(_LOST)
        elif is_empty and reason == CUT_OFF and keeps_thoughts_apart(choice):
            self._warn_once(_STILL_THINKING)
        ends = (getattr(choice, "token_ids", None) or [None])[-1] in self.endpoint.stops(prompt)  # vllm#27390: "length"
        is_cut = at_limit(reply, prompt.max_new_tokens) and not ends
        return None if text is None else GivenAnswer(whole_characters(text), at_limit=is_cut)

    def _warn_once(self, what: str) -> None:
        """Warn once of each kind of empty answer; the report counts them as empty responses."""
        if what not in self._told:
            log.warning("%s: %s", self.connection.server.shown, what)
            self._told.append(what)

    def _check_whole(self, reply: Any, prompt: Prompt) -> None:
        """Refuse prompts and answers that the server has silently cut."""
        read, written = num_read(reply), num_written(reply)
        if read is not None and self.endpoint.too_few(prompt, read):
            raise UnreachableError(
                f"expected {self.connection.server.shown} to read a whole prompt of {len(prompt.ids):,} tokens, got "
                f"{read:,} tokens read; raise the server's window, or lower --max_length"
            )
        if (beyond := beyond_limit(reply, prompt.max_new_tokens)) is not None:
            raise UnreachableError(
                f"expected {self.connection.server.shown} to write {prompt.max_new_tokens:,} tokens at most, got an "
                f"answer of {beyond:,}: it does not read `max_tokens`; ask another server"
            )
        is_cut = ending(reply.choices[0]) == CUT_OFF
        if is_cut and written is not None and written < prompt.max_new_tokens:
            raise UnreachableError(
                f"expected {self.connection.server.shown} to write up to {prompt.max_new_tokens:,} tokens, got an "
                f"answer cut at {written:,}; raise the server's window or its own limit, or lower --max_length"
            )


def _wrote_something(reply: Any) -> bool:
    """Whether a chat server that gives no text has thoughts, or counts more tokens than the end of the turn has."""
    choice = reply.choices[0]
    return hasattr(choice, "message") and (keeps_thoughts_apart(choice) or (num_written(reply) or 0) > _END_OF_TURN)
