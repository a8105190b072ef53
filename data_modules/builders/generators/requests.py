"""Requests to a generator and its completions: prompt templates, decoding settings, content keys."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lit_longpo.errors import InputError
from lit_longpo.policy.prompts.rendered import message
from lit_longpo.policy.prompts.thoughts import spoken
from lit_longpo.ranges import MOST_ANSWERED, check_numbers, check_range

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Decoding:
    """How an answer is decoded; the model's own generation settings are ignored.

    Args:
        temperature: 0 takes the likeliest token each time (greedy).
        top_p: sample from the smallest set of tokens with this probability.
        max_new_tokens: tokens of an answer at most.
        stop: texts that end an answer and are left out of it; in its thoughts they end nothing.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int = 128
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_numbers(self, "decoding.", temperature=(0, 100), max_new_tokens=(1, MOST_ANSWERED))
        check_range("decoding.top_p", self.top_p, "1 takes all tokens", above=0, at_most=1)


@dataclass(frozen=True)
class RequestTemplate:
    """What a recipe asks, with placeholders; every placeholder is filled and no field is dropped.

    Args:
        user: the user's text with `{placeholders}`.
        system: system message; needs a model with a chat template.
    """

    user: str
    system: str | None = None

    def check(self, argument: str, expected: set[str]) -> None:
        """Refuse a template whose placeholders are not exactly the expected ones."""
        placeholders = set(_PLACEHOLDER.findall(self.user))
        if placeholders != expected:
            raise InputError(
                f"expected the placeholders {_braced(expected)} in `{argument}.user`, got "
                f"{_braced(placeholders) or 'none'}; "
                f"change the template {self.user!r}"
            )

    def render(self, **fields: str) -> str:
        """The user's text with its placeholders filled.

        Values are put in as they are: braces inside them mean nothing.

        Raises:
            InputError: a placeholder without a field, or a field without a placeholder.
        """
        self.check("prompt", set(fields))
        return _PLACEHOLDER.sub(lambda match: fields[match.group(1)], self.user)


@dataclass(frozen=True)
class Request:
    """One question to a generator.

    Args:
        id: record, step and sample, for people; it goes to servers as the request's id.
        text: the user's text.
        decoding: how to answer.
        system: system message.
        seed: of the sampling; the same for the same record, step and sample.
        stand_in: what a dry run takes for the answer.
    """

    id: str
    text: str
    decoding: Decoding
    system: str | None = None
    seed: int = 0
    stand_in: str = field(default="an answer", compare=False)

    @property
    def messages(self) -> list[dict[str, str]]:
        """System message, if there is one, and user's text, as chat servers and engines take them."""
        system = [message("system", self.system)] if self.system else []
        return [*system, message("user", self.text)]

    def key(self, model: str) -> str:
        """Content key: equal if and only if model, prompt, decoding and seed are (32 hex digits)."""
        seed = self.seed if self.decoding.temperature else 0
        return digest([model, self.system, self.text, asdict(self.decoding), seed])


@dataclass(frozen=True)
class Completion:
    """What a generator answered.

    Args:
        request: the request's id.
        text: the answer, outer white space removed.
        finished: the model ended it; False if it ran into `max_new_tokens`.
        prompt_tokens: tokens of the prompt, as the generator counted them.
        new_tokens: tokens of the answer, likewise.
        error: why there is no answer; empty if there is one.
        server_id: the id a server gave to the request.
    """

    request: str
    text: str
    finished: bool = True
    prompt_tokens: int = 0
    new_tokens: int = 0
    error: str = ""
    server_id: str = ""


def digest(value: Any) -> str:
    """Hash of a JSON value (32 hex digits)."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def seed_of(*parts: object) -> int:
    """A seed below 2**31 from anything with a fixed text."""
    return int(digest([str(part) for part in parts])[:8], 16) >> 1


def ended(text: str, stop: Sequence[str], *, cut_off: bool, opened: bool = False) -> tuple[str, bool]:
    """The answer up to its end, and whether it ended by itself (by the model or a stop text).

    Args:
        text: of a model.
        stop: texts that end an answer.
        cut_off: whether its tokens were over.
        opened: whether the prompt opened thoughts.
    """
    answer = until_stop(text, stop, opened=opened)
    finished = not cut_off or answer != text.strip()
    return whole_letters(answer, finished=finished), finished


def whole_letters(text: str, *, finished: bool) -> str:
    """An answer without the U+FFFD that is left at its end if it was cut off inside of a character (tgi#1235).

    Args:
        text: of a model.
        finished: whether the model ended it; then it is what the model wrote.
    """
    return text if finished else text.rstrip("\N{REPLACEMENT CHARACTER}").rstrip()


def until_stop(text: str, stop: Sequence[str], *, opened: bool) -> str:
    """The text before the first of the stop texts that is behind the thoughts: in these it ends nothing."""
    end = stop_place(text, stop, opened=opened)
    return text.strip() if end is None else text[:end].strip()


def stop_place(text: str, stop: Sequence[str], *, opened: bool) -> int | None:
    """Where the first of the stop texts behind the thoughts begins; `None` if there is none."""
    for start, end in spoken(text, opened=opened):
        places = [place for mark in stop if 0 <= (place := text.find(mark, start)) < end]
        if places:
            return min(places)
    return None


def _braced(names: set[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in sorted(names))
