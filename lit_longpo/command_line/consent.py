"""Makes `trust_remote_code` need the command line: a configuration file cannot consent for whoever runs it."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from jsonargparse import Namespace

from lit_longpo.command_line.precedence import name_of, options_of, value_of

_TRUST = "trust_remote_code"


def not_consented(values: Namespace, words: Sequence[str], commands: Iterable[str] = ()) -> str | None:
    """The error for a file that sets `trust_remote_code`; `None` if no file does, or if it was typed too.

    Args:
        values: of the command line and its files.
        words: of the command line.
        commands: of the parser; they stand before the names of their options.
    """
    outer = tuple(f"{command}." for command in commands)
    names = (name.partition(".")[2] if name.startswith(outer) else name for name in _granted(values))
    # without a section it is of another project's file, which is refused for all of its keys
    name = next((name for name in names if name != _TRUST and not _is_typed(name, words)), None)
    return name and (
        f"expected `{name}: true`, which runs the code that a model ships, to be typed, got it from a file, which "
        f"cannot say yes for you; type --{name} true if you trust that code"
    )


def _granted(values: Any, name: str = "") -> Iterator[str]:
    """Dotted names of the settings that allow it, however deep."""
    if isinstance(values, list | tuple):
        for item in values:
            yield from _granted(item, name)
    inside = vars(values) if isinstance(values, Namespace) else values
    if isinstance(inside, dict):
        for key, value in inside.items():
            inner = f"{name}.{key}".removeprefix(".")
            if key == _TRUST and value:
                yield _short(inner)
            yield from _granted(value, inner)


def _is_typed(name: str, words: Sequence[str]) -> bool:
    """Whether the setting, or one around it with the setting inside its value, is an option of the command line."""
    for option in options_of(words):
        typed, value = _short(name_of(option).removesuffix("+")), value_of(option)
        is_inline = value.lstrip().startswith(("{", "["))  # not the name of a file
        if name == typed or (name.startswith(f"{typed}.") and is_inline and _TRUST in value):
            return True
    return False


def _short(name: str) -> str:
    """The name as it can be typed: the arguments of a class like those of a section."""
    return ".".join(part for part in name.split(".") if part != "init_args")
