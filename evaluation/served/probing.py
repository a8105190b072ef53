"""Finds out with a few short requests what a server accepts and returns, before a benchmark starts."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from evaluation.prompting import Prompt
from evaluation.served.endpoints import Abilities, Completions, Endpoint
from lit_longpo.errors import InputError, UnreachableError
from lit_longpo.policy import PromptFormat
from lit_longpo.servers import ENDED, Connection, Failure, Send, ending, num_read, num_written, other_model

# Counting on is easy to go on with, and texts of several languages are many different tokens in other tokenizers.
_TEXT = "Zähle weiter, 数一数: one two three four five six 1 2 3 4 5 6 7 8"
_GOES_ON = 4  # tokens of an answer that an end token shall end at once

_REFUSALS = ("BadRequestError", "UnprocessableEntityError")  # of what was asked; nothing else changes by leaving it out


def probe_server(connection: Connection, endpoint: Endpoint, source: str) -> Abilities:
    """What the server behind an endpoint accepts and returns.

    Raises:
        UnreachableError: it answers nothing that it is asked.
        InputError: its tokenizer is another one, or it has no such address, or takes no greedy requests.
    """
    failures = list[str]()
    prompt = _prompt(endpoint.prompt_format)
    for takes_penalties, (takes_ids, takes_extras) in product((True, False), endpoint.tries):
        if not takes_penalties and not failures[-1].startswith(_REFUSALS):
            break
        asked = replace(endpoint, abilities=Abilities(takes_ids, takes_extras, takes_penalties))
        is_text = isinstance(asked, Completions) and not takes_ids
        reply = _ask(connection, asked.send_text if is_text else asked.send, prompt, endpoint)  # type: ignore[attr-defined]
        if not isinstance(reply, Failure):
            adds_front, counts = _check_tokenizer(connection, asked, prompt, source, reply)
            gives_ids = isinstance(getattr(reply.choices[0], "token_ids", None), list)
            found = replace(asked.abilities, adds_front=adds_front, counts=counts, gives_ids=gives_ids)
            found = replace(found, names=other_model(reply, endpoint.card.name))
            obeys = found.gives_ids or _obeys_ends(connection, replace(asked, abilities=found), reply)
            return replace(found, obeys_ends=obeys)
        failures.append(reply.error)
    if failures[-1].startswith(_REFUSALS):
        raise InputError(
            f"expected {connection.server.shown} to take `temperature` 0 and `max_tokens`, got "
            f"{connection.server.hidden(failures[-1])}; ask another model with --server_model, or another server"
        )
    raise connection.unreachable(failures[-1])


def _ask(connection: Connection, send: Send[Prompt], prompt: Prompt, endpoint: Endpoint) -> Any:
    try:
        return connection.ask(send, prompt)
    except UnreachableError as error:
        if getattr(error.__cause__, "status_code", None) != 404:
            raise
        way = endpoint.settings.way
        raise InputError(
            f"expected {connection.server.shown} to answer {way}, got that it has no such address or model; type "
            f"--server_way {'chat' if way == 'completions' else 'completions'}, or correct --server_model"
        ) from error


def _prompt(prompt_format: PromptFormat, max_new_tokens: int = 1, stops: Sequence[int] = ()) -> Prompt:
    ids = prompt_format.encode_text(_TEXT)
    ends = tuple(stops) or prompt_format.stop_ids
    return Prompt(
        ids,
        max_new_tokens,
        ends,
        num_tokens=len(ids),
        uses_chat=False,
        messages=(("user", _TEXT),),
    )


def _check_tokenizer(
    connection: Connection, endpoint: Endpoint, prompt: Prompt, source: str, reply: Any
) -> tuple[bool, bool]:
    """Whether the server puts a token before texts, and whether it counts tokens at all."""
    whole, front = len(prompt.ids), len(endpoint.prompt_format.added_in_front)
    if not isinstance(endpoint, Completions):
        return True, num_read(reply) is not None
    reply = connection.ask(endpoint.send_text, prompt)
    if not isinstance(reply, Failure) and _TEXT in str(endpoint.raw(reply.choices[0])):
        raise InputError(
            f"expected {connection.server.shown} to answer with what follows a prompt, got the prompt before it; turn "
            "that off (`echo`, `return_full_text`), or type --server_way chat"
        )
    number = None if isinstance(reply, Failure) else num_read(reply)
    if number not in (None, whole, whole - front):
        raise InputError(
            f"expected the served model to have the tokenizer of {source}, got {number} tokens of a text that are "
            f"{whole} there; name its own files with --model, of which no weights are read"
        )
    return number in (None, whole), isinstance(reply, Failure) or number is not None


def _obeys_ends(connection: Connection, endpoint: Endpoint, reply: Any) -> bool:
    """Whether the first token of an answer ends it when it is sent as an end token."""
    text = endpoint.raw(reply.choices[0])
    if not endpoint.abilities.takes_extras or not isinstance(text, str) or not text:
        return False
    encode = endpoint.prompt_format.tokenizer.encode
    forms = (text, text.strip(), f" {text.strip()}")
    stops = {number for form in forms for number in encode(form, add_special_tokens=False)[:1]}
    stops |= set(encode(f"8{text}", add_special_tokens=False)[1:2])  # behind other text
    prompt = _prompt(endpoint.prompt_format, _GOES_ON, sorted(stops))
    again = connection.ask(endpoint.send, prompt)
    if isinstance(again, Failure) or ending(again.choices[0]) != ENDED:
        return False
    return (num_written(again) or 1) <= 1
