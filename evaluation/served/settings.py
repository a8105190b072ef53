"""Settings of a server that answers instead of a local model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from evaluation.running.settings import RunSettings
from lit_longpo.errors import InputError, UnreachableError
from lit_longpo.servers import Connection, Failure, Server

Way = Literal["completions", "chat"]
_SHORT = ("--server", "--server_")  # of options: `--server URL`, `--server_model NAME`


@dataclass(frozen=True)
class ServerSettings:
    """An OpenAI-compatible server (vLLM, SGLang, llama.cpp, TGI) that answers instead of a model loaded here.

    Args:
        url: its address, for example http://127.0.0.1:8000/v1; `null` means no server. Short: --server URL.
        model: the model's name there; `null` means the only one. Short: --server_model NAME.
        way: "completions" sends the prompts of a local run, token for token; "chat" sends their texts, and the server
            applies its own chat template.
        key_variable: environment variable with the access key; local servers accept any.
        concurrency: requests at a time at most.
        max_retries: further attempts after connection errors, time-outs, codes 408, 409, 429 and 5xx, and malformed
            replies, with exponential back-off or after the time that the server asks for.
        timeout: seconds until an attempt counts as failed.
        max_failures: failed questions in a row that end the run; the same command continues it.
        extra_body: further fields of every request, for example `{chat_template_kwargs: {enable_thinking: false}}`.
    """

    url: str | None = None
    model: str | None = None
    way: Way = "completions"
    key_variable: str = "OPENAI_API_KEY"
    concurrency: int = 16
    max_retries: int = 5
    timeout: float = 600.0
    max_failures: int = 16
    extra_body: dict[str, Any] = field(default_factory=dict)

    @property
    def server(self) -> Server:
        """The server that is named."""
        assert self.url is not None, "nobody asks without an address"
        patience = (self.concurrency, self.max_retries, self.timeout, self.max_failures)
        return Server(self.url, self.key_variable, *patience)


@dataclass(frozen=True)
class ServedCard:
    """What a server says about a model.

    Args:
        name: by which it is asked.
        root: which files it is, where the server says so.
        window: positions that prompt and answer may take, where the server says so.
    """

    name: str
    root: str | None = None
    window: int | None = None


def find_card(connection: Connection, name: str | None) -> ServedCard:
    """What the server says about the model of that name, or about its only one.

    Raises:
        UnreachableError: there is no such server.
        InputError: it has no model of that name.
    """
    models = connection.models()
    shown = connection.server.shown
    if models is None:
        if name is None:
            raise InputError(f"expected the model's name, as {shown} lists none; type --server_model NAME")
        return ServedCard(name)
    if name is None and len(models) == 1:
        [name] = models
    if name is not None and name not in models and _answers(connection, name):
        return ServedCard(name)
    if name is None or name not in models:
        raise InputError(
            f"expected one of the models of {shown}, {', '.join(sorted(models)) or 'which has none'}, got "
            f"{name or 'no name'}; type --server_model NAME"
        )
    card = models[name]
    beneath = models.get(str(getattr(card, "parent", None)), card)  # adapters' own card may say nothing
    window = next((size for item in (card, beneath) if (size := _window(item))), None)
    root = getattr(card, "root", None)
    return ServedCard(name, str(root) if root else None, window)


def _answers(connection: Connection, name: str) -> bool:
    """Whether a model answers that is not in the list, which may be of something else (`transformers serve FOLDER`)."""
    messages = [{"role": "user", "content": "1 2 3"}]
    try:
        reply = connection.ask(lambda client, model: client.chat.completions.create(
            model=model, messages=messages, max_tokens=1), name)  # fmt: skip
    except UnreachableError:
        return False
    return not isinstance(reply, Failure)


def _window(card: Any) -> int | None:
    size = getattr(card, "max_model_len", None)
    return size if isinstance(size, int) and size > 0 else None


def check_way(settings: ServerSettings, run: RunSettings) -> None:
    """Refuse what cannot go together, before anything is read.

    Raises:
        InputError: the official protocol asks in no template of a server's.
    """
    if settings.way == "chat" and run.protocol == "official":
        raise InputError(
            "expected `protocol: served` for `server.way: chat`, whose template is the server's, got official; type "
            "--server_way completions, or --protocol served"
        )


def with_server(words: Sequence[str]) -> list[str]:
    """`--server URL` as `--server.url URL`, `--server_model NAME` as `--server.model NAME`."""
    return [_long(word) for word in words]


def _long(word: str) -> str:
    name, equals, value = word.partition("=")
    if name == _SHORT[0]:
        return f"--server.url{equals}{value}"
    return word.replace(_SHORT[1], "--server.", 1) if name.startswith(_SHORT[1]) else word
