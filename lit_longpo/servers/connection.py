"""Connections to OpenAI-compatible servers, with retries and several requests at a time."""

import json
import os
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from queue import SimpleQueue
from typing import Any, TypeVar
from urllib.parse import urlsplit

from lit_longpo.errors import InputError, UnreachableError, require_package
from lit_longpo.ranges import MOST, check_numbers
from lit_longpo.servers.passwords import without_passwords
from lit_longpo.servers.replies import has_choice, told_error

Item = TypeVar("Item")
Send = Callable[[Any, Item], Any]  # an `openai.OpenAI` and what is asked, to its reply

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 8.0  # seconds between attempts, as openai's client waits
_SHORTEST_SECRET = 4  # characters; shorter texts are in messages anyway


@dataclass(frozen=True)
class Failure:
    """Takes the place of a reply to a request that has failed.

    Args:
        error: the reason, in one line without keys.
        is_final: whether asking again would change nothing.
    """

    error: str
    is_final: bool = False


@dataclass(frozen=True)
class Server:
    """Where a server listens, and how patiently it is asked.

    Args:
        url: usually ends with /v1, which is added to an address without a path.
        key_variable: environment variable that holds the access key, around which blanks and line ends do not count;
            local servers take any.
        concurrency: the most requests under way at a time.
        max_retries: further attempts after connection errors, time-outs, codes 408, 409, 429 and 5xx and replies that
            are no JSON, with exponential back-off or as long as the server's Retry-After says.
        timeout: seconds until an attempt counts as failed.
        max_failures: failed requests in a row that end everything.
        option: the option that sets the address, for error messages.

    Raises:
        InputError: the address is none of a server, or a number is below what makes sense.
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
        """The address that requests go to; it may hold a password."""
        url = self.url.rstrip("/")
        return url if urlsplit(url).path else f"{url}/v1"

    @property
    def shown(self) -> str:
        """The address without user and password."""
        return without_passwords(self.address)

    @property
    def key(self) -> str:
        """The access key; "none" if there is none.

        Raises:
            InputError: it has a character that no header of a request can hold.
        """
        key = os.environ.get(self.key_variable, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise InputError(
                f"expected an access key of ASCII characters in ${self.key_variable}, got one with others among them; "
                "copy it anew"
            )
        return key or "none"

    @property
    def is_here(self) -> bool:
        """Whether the address is one of this machine's own, which no proxy reaches."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ip_address(host).is_loopback or ip_address(host).is_unspecified
        except ValueError:
            return host == "localhost"

    def hidden(self, text: str) -> str:
        """The text without access key and password, which some servers repeat in their errors."""
        secrets = (os.environ.get(self.key_variable, "").strip(), urlsplit(self.url).password)
        for secret in secrets:
            if secret and len(secret) >= _SHORTEST_SECRET:
                text = text.replace(secret, "***")
        return without_passwords(" ".join(text.split()))


class Connection:
    """Requests to a server, several at a time; nothing is sent when it is made.

    Raises:
        MissingPackageError: the client is not installed.
        InputError: the access key cannot be sent.
    """

    def __init__(self, server: Server) -> None:
        require_package("openai", "a server", 'type: pip install "lit_longpo[build]"')
        from openai import DefaultHttpxClient, OpenAI

        self.server = server
        self._failed = 0  # in a row
        self._closing = threading.Event()
        unproxied = dict.fromkeys(("http://", "https://")) if server.is_here else {}  # whatever HTTP_PROXY says
        self._client = OpenAI(
            base_url=server.address,
            api_key=server.key,
            max_retries=server.max_retries,
            timeout=server.timeout,
            http_client=DefaultHttpxClient(mounts=unproxied),
        )

    def models(self) -> dict[str, Any] | None:
        """What the server says about its models, by their names; `None` if it does not list them.

        Raises:
            UnreachableError: nobody answers, or refuses the key.
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
        """The error about a server that is not there, or not the expected one."""
        return UnreachableError(
            f"expected an OpenAI-compatible server at {self.server.shown}, got {self.server.hidden(got)}; start it, or "
            f"correct {self.server.option}, the model's name or the key in ${self.server.key_variable}"
        )

    def ask(self, send: Send[Item], item: Item) -> Any:
        """One reply that has choices, or a `Failure`.

        Raises:
            UnreachableError: the key or the model's name is wrong.
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
            UnreachableError: the key or the model's name is wrong, or `max_failures` requests failed in a row.
        """
        pool = ThreadPoolExecutor(self.server.concurrency)
        ended = SimpleQueue[Future[Any]]()  # in their order: `as_completed` loses it, and failures in a row are counted
        try:
            waiting = {pool.submit(self.ask, send, item): item for item in items}
            for future in waiting:
                future.add_done_callback(ended.put)
            for _ in waiting:
                done = ended.get()
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
        """Ask again after replies that are no answer; after errors of the connection the client itself does."""
        for attempt in range(self.server.max_retries + 1):
            reply = _sent(send)
            if not isinstance(reply, Failure) or reply.is_final:
                return reply
            wait = min(_FIRST_WAIT * 2**attempt, _LONGEST_WAIT) * (1 - random.random() / 4)
            if attempt < self.server.max_retries and self._closing.wait(wait):
                break
        return Failure(self.server.hidden(reply.error))

    def _told(self, error: Exception) -> str:
        why = "" if error.__cause__ is None else f" ({error.__cause__})"  # of "Connection error."
        return self.server.hidden(f"{type(error).__name__}: {error}{why}")


def _sent(send: Callable[[], Any]) -> Any:
    try:
        reply = send()
    except json.JSONDecodeError as error:
        return Failure(f"expected JSON in the server's reply, got {error.doc!r:.200}")
    except UnicodeDecodeError as error:
        return Failure(f"expected JSON in UTF-8 in the server's reply, got {error.object!r:.200}")
    if isinstance(reply, Failure):
        return reply
    told = told_error(reply)
    if told is None and has_choice(reply):
        return reply
    return Failure(f"expected one choice with its text in the server's reply, got {told or reply!r:.200}")
