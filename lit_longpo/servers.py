"""OpenAI-compatible servers (vLLM, SGLang, llama.cpp, TGI, `transformers serve`, hosted models), asked patiently."""

import importlib.util
import json
import os
import random
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

from lit_longpo.errors import InputError, MissingPackageError, UnreachableError
from lit_longpo.ranges import MOST, check_numbers

Item = TypeVar("Item")
Send = Callable[[Any, Item], Any]  # an `openai.OpenAI` and what is asked, to its reply

# Of a data base or a store only with a password, which SQLAlchemy reads up to the @, slashes too, or behind the
# question mark: `hf://gpt2@main` has no user. There the user stays, without whom nobody gets in again; before a
# server's address it may be the key itself.
_USER = re.compile(
    r"(https?://)[^/@\s]+@|([a-z][a-z0-9+.-]*://)([^/@:\s]*):(?!\d+/)[^@\s]*@"
    r"|(?<=[?&])((?:password|passwd|pwd)=)[^&\s\"']*",
    re.IGNORECASE,
)
# Why an answer ended, as servers name it: the model ended it, or its tokens were over. Others (a filter, an error
# halfway, an abort) leave a part of an answer that looks like one.
ENDED, CUT_OFF = ("stop", "eos_token", "stop_sequence", "eos"), "length"  # TGI's in the middle, Together's last
_THOUGHTS = ("reasoning_content", "reasoning")  # of a reply's message: what servers that keep them apart call them
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 8.0  # seconds between attempts, as openai's client waits
_SHORTEST_SECRET = 4  # characters; shorter texts are in messages anyway


@dataclass(frozen=True)
class Failure:
    """That a request has no answer.

    Args:
        error: why, in one line without keys.
        is_final: asking again changes nothing.
    """

    error: str
    is_final: bool = False


@dataclass(frozen=True)
class Server:
    """Where a server listens, and how patiently it is asked.

    Args:
        url: ends with /v1, which is added to an address without a path.
        key_variable: environment variable that holds the access key; local servers take any.
        concurrency: requests under way at most.
        max_retries: further attempts after connection errors, time-outs, codes 408, 409, 429 and 5xx and replies that
            are no JSON, with exponential back-off or as long as the server's Retry-After says.
        timeout: seconds until an attempt counts as failed.
        max_failures: failed requests in a row that end everything.
        option: what sets the address, for errors.

    Raises:
        ValueError: the address is none of a server, or a number is below what makes sense.
    """

    url: str
    key_variable: str = "OPENAI_API_KEY"
    concurrency: int = 8
    max_retries: int = 5
    timeout: float = 600.0
    max_failures: int = 16
    option: str = "--server"

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise InputError(
                f"expected an address such as http://127.0.0.1:8000/v1 in {self.option}, got {self.shown!r}; correct it"
            )
        check_numbers(self, "", concurrency=(1, 10_000), max_retries=(0, 1000), max_failures=(1, MOST))
        check_numbers(self, "", timeout=(0.001, 1_000_000))  # Python waits no longer than some centuries

    @property
    def address(self) -> str:
        """What is asked; it may hold a password."""
        url = self.url.rstrip("/")
        return url if urlsplit(url).path else f"{url}/v1"

    @property
    def shown(self) -> str:
        """The address without user and password."""
        return without_passwords(self.address)

    def hidden(self, text: str) -> str:
        """A text for people and files: the key and a password, which some servers repeat, taken out."""
        secrets = (os.environ.get(self.key_variable), urlsplit(self.url).password)
        for secret in secrets:
            if secret and len(secret) >= _SHORTEST_SECRET:
                text = text.replace(secret, "***")
        return without_passwords(" ".join(text.split()))

    def connect(self) -> "Connection":
        """Get ready; nothing is sent yet.

        Raises:
            ModuleNotFoundError: the client is not installed.
        """
        return Connection(self)


def broke_off(reason: str | None) -> bool:
    """Whether an answer was left in its middle by something else than its number of tokens.

    Args:
        reason: for which it ended, as a server or an engine names it; `None` where it does not say.
    """
    return reason not in (None, *ENDED, CUT_OFF)


def keeps_thoughts_apart(choice: Any) -> bool:
    """Whether a reply has thoughts beside its text.

    Args:
        choice: of a reply.
    """
    message = getattr(choice, "message", None)
    in_parts = any(part.get("type") == "thinking" for part in _parts(getattr(message, "content", None)))
    return in_parts or any(getattr(message, name, None) for name in _THOUGHTS)


def said_in(choice: Any) -> Any:
    """The text of a chat reply, without thoughts that the server keeps apart; empty where there is none.

    Args:
        choice: of the reply. Some servers give a list of parts (Mistral's, ai-dial-adapter-openai#395).
    """
    content = choice.message.content
    if isinstance(content, list):
        return "".join(part["text"] for part in _parts(content) if isinstance(part.get("text"), str))
    return "" if content is None else content


def _parts(content: Any) -> list[dict[str, Any]]:
    return [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []


def num_read(reply: Any) -> int | None:
    """Tokens of the prompt as the server counts them; `None` where it does not."""
    return _count(reply, "prompt_tokens")


def num_written(reply: Any) -> int | None:
    """Tokens of the answer as the server counts them."""
    return _count(reply, "completion_tokens")


def _count(reply: Any, name: str) -> int | None:
    number = getattr(getattr(reply, "usage", None), name, None)
    return number if isinstance(number, int) and number > 0 else None


def without_passwords(text: str) -> str:
    """The text without the user part of every server's address in it, and without every other password."""
    return _USER.sub(_shown, text)


def _shown(found: re.Match[str]) -> str:
    server, store, user, query = found.groups()
    return server or (f"{store}{user}@" if user else store) or query


def whole_characters(text: str) -> str:
    """What a server wrote, halves of characters replaced as tokenizers do: no file or score could take them."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


class Connection:
    """Requests to a server, several at a time.

    Args:
        server: who is asked.

    Raises:
        ModuleNotFoundError: the client is not installed.
    """

    def __init__(self, server: Server) -> None:
        if importlib.util.find_spec("openai") is None:
            raise MissingPackageError('a server needs the `build` extra; type: pip install "lit_longpo[build]"')
        from openai import OpenAI

        self.server = server
        self._failed = 0  # in a row
        self._closing = threading.Event()
        key = os.environ.get(server.key_variable) or "none"
        self._client = OpenAI(
            base_url=server.address, api_key=key, max_retries=server.max_retries, timeout=server.timeout
        )

    def models(self) -> dict[str, Any] | None:
        """What the server says about its models, by their names; `None` if it does not list them.

        Raises:
            ConnectionError: nobody answers, or refuses the key.
        """
        import openai

        try:
            found = self._client.models.list()
        except (openai.NotFoundError, openai.InternalServerError):  # `transformers serve` without a cache of the hub
            return None
        except (openai.OpenAIError, json.JSONDecodeError) as error:
            raise self.unreachable(self._told(error)) from error
        cards = getattr(found, "data", None)
        if not isinstance(cards, list):
            raise self.unreachable(f"{found!r:.200} for its list of models")
        return {str(card.id): card for card in cards}

    def unreachable(self, got: str) -> UnreachableError:
        """That there is no server such as one was expected."""
        return UnreachableError(
            f"expected an OpenAI-compatible server at {self.server.shown}, got {self.server.hidden(got)}; start it, or "
            f"correct {self.server.option}, the model's name or the key in ${self.server.key_variable}"
        )

    def ask(self, send: Send[Item], item: Item) -> Any:
        """One reply that has choices, or a `Failure`.

        Raises:
            ConnectionError: the key or the model's name is wrong.
        """
        import openai

        try:
            return self._patiently(partial(send, self._client, item))
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise self.unreachable(self._told(error)) from error
        except openai.OpenAIError as error:
            return Failure(self._told(error))

    def ask_all(self, items: Iterable[Item], send: Send[Item]) -> Iterator[tuple[Item, Any]]:
        """Every item with its reply or `Failure`, as they come in; what waits is cancelled if the caller stops early.

        Raises:
            ConnectionError: the key or the model's name is wrong, or `max_failures` requests failed in a row.
        """
        pool = ThreadPoolExecutor(self.server.concurrency)
        try:
            waiting = {pool.submit(self.ask, send, item): item for item in items}
            for done in as_completed(waiting):
                reply = done.result()
                self._count(reply)
                yield waiting[done], reply
        finally:
            self._closing.set()
            pool.shutdown(wait=True, cancel_futures=True)
            self._closing.clear()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _count(self, reply: Any) -> None:
        self._failed = self._failed + 1 if isinstance(reply, Failure) else 0
        if self._failed >= self.server.max_failures:
            raise UnreachableError(
                f"expected answers from {self.server.shown}, got {self._failed} errors in a row, the last: "
                f"{reply.error}; see that the server runs and type the same command again to go on"
            )

    def _patiently(self, send: Callable[[], Any]) -> Any:
        """The client tries again by itself; not after a reply that is none."""
        for attempt in range(self.server.max_retries + 1):
            reply = _sent(send)
            if not isinstance(reply, Failure) or reply.is_final:
                return reply
            wait = min(_FIRST_WAIT * 2**attempt, _LONGEST_WAIT) * (1 - random.random() / 4)
            if attempt < self.server.max_retries and self._closing.wait(wait):
                break
        return Failure(self.server.hidden(reply.error))

    def _told(self, error: Exception) -> str:
        return self.server.hidden(f"{type(error).__name__}: {error}")


def _sent(send: Callable[[], Any]) -> Any:
    try:
        reply = send()
    except json.JSONDecodeError as error:
        return Failure(f"expected JSON in the server's reply, got {error.doc!r:.200}")
    except UnicodeDecodeError as error:
        return Failure(f"expected JSON in UTF-8 in the server's reply, got {error.object!r:.200}")
    if isinstance(reply, Failure) or has_choice(reply):
        return reply
    told = getattr(reply, "error", None) or reply
    return Failure(f"expected one choice with its text in the server's reply, got {told!r:.200}")


def has_choice(reply: Any) -> bool:
    """Whether a reply has a choice with a message or a text.

    Args:
        reply: of a server; what stands behind some sends others where it fails, with code 200.
    """
    choices = getattr(reply, "choices", None)
    choice: Any = choices[0] if isinstance(choices, list) and choices else None
    said = choice.message if hasattr(choice, "message") else choice
    content = getattr(said, "text" if said is choice else "content", 0)
    if isinstance(content, list):
        return all(isinstance(part, dict) for part in content)
    return content is None or isinstance(content, str)  # nothing beside a refusal, or thoughts that were cut off
