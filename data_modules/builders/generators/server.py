"""Answers from any OpenAI-compatible server (vLLM, SGLang, `transformers serve`, hosted models)."""

import importlib.util
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

from data_modules.builders.generators.base import TextGenerator
from data_modules.builders.generators.requests import Completion, Request, until_stop
from lit_longpo.errors import MissingPackageError, UnreachableError
from lit_longpo.policy import PolicyConfig


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
            with exponential back-off.
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
        self._client: Any = None
        self._failed = 0  # in a row, over all rounds of a build

    def open(self, policy: PolicyConfig) -> str:
        """Make the client; nothing is sent yet."""
        self._failed = 0
        if importlib.util.find_spec("openai") is None:
            raise MissingPackageError('ServerGenerator needs the `build` extra; type: pip install "lit_longpo[build]"')
        from openai import OpenAI

        key = os.environ.get(self.key_variable) or "none"
        self._client = OpenAI(base_url=self.base_url, api_key=key, max_retries=self.max_retries, timeout=self.timeout)
        return f"server:{self.model}:{self.extra_body}"

    def answer(self, batches: Sequence[Sequence[Request]]) -> Iterator[Completion]:
        """As they come in; what waits is cancelled if the build ends early."""
        pool = ThreadPoolExecutor(self.concurrency)
        try:
            waiting = [pool.submit(self._ask, request) for batch in batches for request in batch]
            for done in as_completed(waiting):
                completion = done.result()
                self._failed = self._failed + 1 if completion.error else 0
                if self._failed >= self.max_failures:
                    raise UnreachableError(
                        f"expected answers from {self.base_url}, got {self._failed} errors in a row, the last: "
                        f"{completion.error}; see that the server runs and type the same command again to go on"
                    )
                yield completion
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()

    def _ask(self, request: Request) -> Completion:
        """One request; refusals of this one request become an error, a wrong key or model name is raised."""
        import openai

        try:
            reply = self._client.chat.completions.create(**self._body(request))
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise UnreachableError(
                f"expected {self.base_url} to know the model {self.model!r} and the key in ${self.key_variable}, got: "
                f"{error}; set `generator.init_args.model`, `.base_url` or the variable"
            ) from error
        except openai.OpenAIError as error:
            return Completion(request.id, "", error=f"{type(error).__name__}: {error}")
        return _completion(request, reply)

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
    if not getattr(reply, "choices", None):
        return Completion(request.id, "", error=f"expected one choice in the server's reply, got {reply!r:.200}")
    choice, usage = reply.choices[0], reply.usage
    return Completion(
        request=request.id,
        text=until_stop(choice.message.content or "", request.decoding.stop),
        finished=choice.finish_reason != "length",
        prompt_tokens=getattr(usage, "prompt_tokens", 0) or 0,
        new_tokens=getattr(usage, "completion_tokens", 0) or 0,
        server_id=str(getattr(reply, "_request_id", None) or reply.id or ""),
    )
