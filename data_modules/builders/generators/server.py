"""Answers from any OpenAI-compatible server (vLLM, SGLang, `transformers serve`, hosted models)."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from data_modules.builders.generators.base import TextGenerator
from data_modules.builders.generators.requests import Completion, Request, ended
from data_modules.builders.generators.whole_prompts import WholePrompts
from lit_longpo.files.plain_text import is_blank
from lit_longpo.policy import PolicyConfig
from lit_longpo.policy.prompts.thoughts import in_think_marks, is_thinking
from lit_longpo.servers import (
    ENDED,
    Connection,
    Failure,
    Server,
    at_limit,
    beyond_limit,
    broke_off,
    ending,
    has_choice,
    keeps_thoughts_apart,
    num_read,
    num_written,
    other_model,
    reply_text,
    whole_characters,
    without_passwords,
)

log = logging.getLogger(__name__)

# What a request has to state so that the model's own generation settings change nothing; -1 are all tokens.
_BESIDE_OPENAIS: dict[str, Any] = {"repetition_penalty": 1.0, "top_k": -1, "min_p": 0.0}
_OPENAIS: dict[str, Any] = {
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
}  # some hosted models refuse them, at 0 too
_SHORTEST = 16  # tokens of an answer, which hosted models take as a limit
_TAGS = re.compile(r"(?:</s>|<eos>)$")  # end tokens that may be text, too
_LATER_LIMIT = "max_completion_tokens"  # OpenAI's name for `max_tokens`, the only one that its later models take


@dataclass(frozen=True)
class _Form:
    """A way to put a request, which a server takes or not."""

    neutral: Mapping[str, Any]
    limit: str = "max_tokens"

    @property
    def left_out(self) -> list[str]:
        """Settings that it does not name."""
        return [name for name in _EVERYTHING if name not in self.neutral]


_EVERYTHING = {**_BESIDE_OPENAIS, **_OPENAIS}
_FORMS = tuple(map(_Form, (_EVERYTHING, _OPENAIS, {})))  # the fullest first


@dataclass
class ServerGenerator(TextGenerator):
    """Chat completions of a server, several at a time.

    A server that samples need not repeat itself; answers already written are never asked again. It applies its own
    chat template: `policy.template.markup` and `.date` do not reach it, and control tokens that texts write out are
    what it makes of them. Servers fill in what a request does not say from the model's own generation settings (vLLM:
    a repetition penalty, top-k); so requests say it all. Where a server refuses fields beside OpenAI's, or hosted
    models the penalties too, they are left out, which is said. A prompt that the server has cut, as some do without a
    word, fails.

    Args:
        model: the model's name on the server.
        base_url: where the server listens; ends with /v1. A build goes on with the same model behind another one.
        key_variable: environment variable that holds the access key; local servers take any.
        concurrency: requests under way at most.
        max_retries: further attempts after connection errors, time-outs and codes 408, 409, 429 and 5xx,
            with exponential back-off or as long as the server asks for.
        timeout: seconds until an attempt counts as failed.
        max_failures: failed requests in a row that end the build; the same command continues it.
        extra_body: further fields of every request, for example `{chat_template_kwargs: {...}}`.
    """

    model: str
    base_url: str = field(default="http://127.0.0.1:8000/v1", metadata={"runtime": True})
    key_variable: str = field(default="OPENAI_API_KEY", metadata={"runtime": True})
    concurrency: int = field(default=8, metadata={"runtime": True})
    max_retries: int = field(default=5, metadata={"runtime": True})
    timeout: float = field(default=600.0, metadata={"runtime": True})
    max_failures: int = field(default=16, metadata={"runtime": True})
    extra_body: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        patience = (self.concurrency, self.max_retries, self.timeout, self.max_failures)
        self._server = Server(self.base_url, self.key_variable, *patience, "`generator.init_args.base_url`")
        self.base_url = without_passwords(self.base_url)  # settings are written down
        self._connection: Connection | None = None
        self._whole_prompts: WholePrompts | None = None
        self._opens_thoughts = False  # as far as the policy's own template tells
        self._form: _Form | None = None  # the fullest that the server takes; `None` until it has answered

    def open(self, policy: PolicyConfig) -> str:
        """Make the client; nothing is sent yet."""
        self._connection = Connection(self._server)
        prompt_format = policy.prompt_format()
        self._opens_thoughts = prompt_format.opens_thoughts
        self._whole_prompts = WholePrompts(lambda text: len(prompt_format.encode_text(text)))
        return f"server:{self.model}:{self.extra_body}"

    def answer(self, batches: Sequence[Sequence[Request]]) -> Iterator[Completion]:
        """As they come in; what waits is cancelled if the build ends early."""
        assert self._connection is not None, "open comes first"
        requests = [request for batch in batches for request in batch]
        for request, reply in self._connection.ask_all(requests, self._ask):
            yield _completion(request, reply, opened=self._opens_thoughts)

    def close(self) -> None:
        """Close the connections."""
        if self._connection is not None:
            self._connection.close()

    def _ask(self, client: Any, request: Request) -> Any:
        import openai

        forms = list(_FORMS) if self._form is None else [self._form]
        refused = list[Exception]()
        for form in forms:
            try:
                reply = client.chat.completions.create(**self._body(request, form))
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                refused.append(error)
                if _LATER_LIMIT in str(error) and form.limit != _LATER_LIMIT:
                    forms.append(replace(form, limit=_LATER_LIMIT))
            else:
                self._settle(form, reply)
                return self._of_whole_prompt(client, request, form, reply)
        raise refused[-1]

    def _of_whole_prompt(self, client: Any, request: Request, form: _Form, reply: Any) -> Any:
        """The reply behind its thoughts; a failure if the server has cut the prompt."""
        assert self._whole_prompts is not None, "open comes first"
        text = "\n".join(filter(None, (request.system, request.text)))
        missing = self._whole_prompts.missing(text, reply, partial(self._read, client, request, form))
        if not missing:
            return self._behind_thoughts(client, request, form, _ended(reply, request.decoding.max_new_tokens))
        return Failure(
            f"the server has read {missing} of the prompt; raise its window (ollama: OLLAMA_CONTEXT_LENGTH)",
            is_final=True,
        )

    def _read(self, client: Any, request: Request, form: _Form, text: str) -> Any:
        """A reply to another text, for the sake of its tokens."""
        decoding = replace(request.decoding, max_new_tokens=_SHORTEST, stop=())
        body = self._body(replace(request, text=text, system=None, decoding=decoding), form)
        return client.chat.completions.create(**body)

    def _behind_thoughts(self, client: Any, request: Request, form: _Form, reply: Any) -> Any:
        """The reply; if a stop text ended it in its thoughts, another one that no text has ended."""
        if not request.decoding.stop or isinstance(reply, Failure) or not has_choice(reply):
            return reply
        if not _ends_in_thoughts(reply.choices[0], opened=self._opens_thoughts):
            return reply
        unended = replace(request, decoding=replace(request.decoding, stop=()))
        return client.chat.completions.create(**self._body(unended, form))

    def _settle(self, form: _Form, reply: Any) -> None:
        """Ask the same way from now on."""
        if self._form is None and num_read(reply) is None:
            log.warning("%s does not count tokens: whether it cuts prompts is not known", self.base_url)
        if self._form is None and form.left_out:
            log.warning(
                "%s refuses %s; if the model's own generation settings have them, its answers follow those",
                self.base_url,
                ", ".join(form.left_out),
            )
        if self._form is None and (other := other_model(reply, self.model)) is not None:
            log.warning(
                "%s: asked for %s, replies name %s: see that no other model answers", self.base_url, self.model, other
            )
        self._form = form

    def _body(self, request: Request, form: _Form) -> dict[str, Any]:
        decoding = request.decoding
        own = {name: value for name, value in form.neutral.items() if name in _OPENAIS}
        others = {name: value for name, value in form.neutral.items() if name not in own}
        return {
            "model": self.model,
            "messages": request.messages,
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            form.limit: decoding.max_new_tokens,
            "seed": request.seed,
            **own,
            **({"stop": list(decoding.stop)} if decoding.stop else {}),
            "extra_headers": {"X-Request-Id": request.id.encode("ascii", "backslashreplace").decode()},
            "extra_body": {**others, **self.extra_body},
        }


def _ended(reply: Any, most: int) -> Any:
    """The reply; a failure if its answer went on beyond the tokens that it was asked for."""
    if not has_choice(reply) or (written := beyond_limit(reply, most)) is None:
        return reply
    return Failure(
        f"the server has written {written:,} tokens, asked for {most:,} at most: it does not read `max_tokens`; raise "
        "`max_new_tokens` above what it writes, or ask another server",
        is_final=True,
    )


def _text(choice: Any) -> str:
    """A reply's text without an end token that may be text, too: which tokens the server's model has is not known."""
    return _TAGS.split(reply_text(choice), maxsplit=1)[0]


def _ends_in_thoughts(choice: Any, *, opened: bool) -> bool:
    """Whether an answer that is said to be at its end has not begun."""
    text = _text(choice)
    if ending(choice) != ENDED:
        return False
    return is_blank(text) if keeps_thoughts_apart(choice) else is_thinking(text, opened=opened)


def _completion(request: Request, reply: Any, *, opened: bool) -> Completion:
    if isinstance(reply, Failure):
        return Completion(request.id, "", error=reply.error)
    choice = reply.choices[0]
    if broke_off(choice):
        return Completion(request.id, "", error=f"the server ended the answer with {choice.finish_reason!r:.100}")
    text = in_think_marks(whole_characters(_text(choice)))  # the marks that `fit` knows
    cut_off = at_limit(reply, request.decoding.max_new_tokens)
    # What ended without `</think>` is the answer of a server that keeps thoughts to itself.
    opened = opened and cut_off and not keeps_thoughts_apart(choice)
    answer, finished = ended(text, request.decoding.stop, cut_off=cut_off, opened=opened)
    return Completion(
        request=request.id,
        text=answer,
        finished=finished,
        prompt_tokens=num_read(reply) or 0,
        new_tokens=num_written(reply) or 0,
        server_id=str(getattr(reply, "_request_id", None) or reply.id or ""),
    )
