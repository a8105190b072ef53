"""Checks what the `pairs` of a user's own data module returns; ours are known to be right."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from data_modules.records import PreferencePair
from lit_longpo.errors import InputError, InputTypeError

_TEXTS = ("id", "question", "short_context", "long_context", "chosen")


def check_sequence(module: str, pairs: Any) -> None:
    """Refuse what cannot be counted and gone through twice.

    Raises:
        InputTypeError: it is no sequence, by what it can do: who reads pairs as they are asked for need not derive one.
    """
    if not (hasattr(pairs, "__len__") and hasattr(pairs, "__getitem__")) or isinstance(pairs, str | Mapping):
        raise InputTypeError(
            f"expected {module}.pairs to return a list of PreferencePair, got {type(pairs).__name__}; return a list"
        )


def checked_pairs(module: str, pairs: Iterable[Any]) -> Iterator[PreferencePair]:
    """The pairs one by one, if they are some.

    Raises:
        InputTypeError: one is another object, or has another type than text where text is read.
        InputError: two have one id.
    """
    seen = set[str]()
    for pair in pairs:
        if not isinstance(pair, PreferencePair):
            raise InputTypeError(
                f"expected {module}.pairs to return PreferencePair objects, got {type(pair).__name__}; make one of it"
            )
        _check_texts(module, pair)
        if pair.id in seen:
            raise InputError(f"expected ids in {module}.pairs that are used once, got {pair.id!r} again; number them")
        seen.add(pair.id)
        yield pair


def _check_texts(module: str, pair: PreferencePair) -> None:
    fields = {f"{name!r}": getattr(pair, name) for name in _TEXTS}
    if not isinstance(pair.rejected, tuple | list):  # of a text, every letter would be an answer
        got = type(pair.rejected).__name__
        raise InputTypeError(
            f"expected 'rejected' of {pair.id!r} in {module}.pairs to be a tuple of texts, got {got}; write (text,)"
        )
    fields |= {f"'rejected' {number}": text for number, text in enumerate(pair.rejected)}
    for name, value in fields.items():
        if not isinstance(value, str):
            raise InputTypeError(
                f"expected {name} of {pair.id!r} in {module}.pairs to be text, got {type(value).__name__}; write str"
            )
