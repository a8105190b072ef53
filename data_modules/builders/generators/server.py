"""Answers from any OpenAI-compatible server (vLLM, SGLang, `transformers serve`, hosted models)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from data_modules.builders.generators.base import TextGenerator
from data_modules.builders.generators.requests import Completion, Request, until_stop
from lit_longpo.policy import PolicyConfig
from lit_longpo.servers import Connection, Failure, Server, whole_characters, without_passwords


@dataclass
class ServerGenerator(TextGenerator):
    """Chat completions of a server, several at a time.

    A server that samples need not repeat itself; answers already written are never asked again. It applies its own
    chat template: `policy.template.markup` and `.date` do not reach it, and control tokens that texts write out are
    what it makes of them.

    Args:
        model: the model's name on the server.
        base_url: where the server listens; ends with /v1.
        key_variable: environment variable that holds the access key; local servers take any.
        concurrency: requests under way at most.
        max_retries: further attempts after connection errors, time-outs and codes 408, 409, 429 and 5xx,
            with exponential back-off or as long as the server asks for.
        timeout: seconds until an attempt counts as failed.
        max_failures: failed requests in a row that end the build; the same command continues it.
        extra_body: further fields of every request, for example `{chat_template_kwargs: {...}}`.
    """

    model: str
    base_url: str = "http://127.0.0.1:8000/v1"
    key_variable: str = "OPENAI_API_KEY"
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

    def open(self, policy: PolicyConfig) -> str:
        """Make the client; nothing is sent yet."""
        self._connection = self._server.connect()
        return f"server:{self.model}:{self.extra_body}"

    def answer(self, batches: Sequence[Sequence[Request]]) -> Iterator[Completion]:
        """As they come in; what waits is cancelled if the build ends early."""
        assert self._connection is not None, "open comes first"
        requests = [request for batch in batches for request in batch]
        for request, reply in self._connection.ask_all(requests, self._ask):
            yield _completion(request, reply)

    def close(self) -> None:
        """Close the connections."""
        if self._connection is not None:
            self._connection.close()

    def _ask(self, client: Any, request: Request) -> Any:
        return client.chat.completions.create(**self._body(request))

    def _body(self, request: Request) -> dict[str, Any]:
        decoding = request.decoding
        return {
            "model": self.model,
            "messages": request.messages,
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "max_tokens": decoding.max_new_tokens,
            "seed": request.seed,
            **({"stop": list(decoding.stop)} if decoding.stop else {}),
            "extra_headers": {"X-Request-Id": request.id.encode("ascii", "backslashreplace").decode()},
            "extra_body": self.extra_body,
        }


def _completion(request: Request, reply: Any) -> Completion:
    if isinstance(reply, Failure):
        return Completion(request.id, "", error=reply.error)
    choice, usage = reply.choices[0], reply.usage
    return Completion(
        request=request.id,
        text=until_stop(whole_characters(choice.message.content or ""), request.decoding.stop),
        finished=choice.finish_reason != "length",
        prompt_tokens=getattr(usage, "prompt_tokens", 0) or 0,
        new_tokens=getattr(usage, "completion_tokens", 0) or 0,
        server_id=str(getattr(reply, "_request_id", None) or reply.id or ""),
    )
