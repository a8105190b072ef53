"""A chat template's own text: which one a tokenizer means, and the day that it is told."""

from datetime import datetime
from typing import cast

from transformers import PreTrainedTokenizerBase

from lit_longpo.errors import InputError

_DIRECTIVES = ("-d", "-m", "-H", "-I", "-M", *"aAbBcdeFHIjmMpSTuUwWxXyYZzDRVGghnt")


def template_source(tokenizer: PreTrainedTokenizerBase) -> str:
    """The template that a tokenizer has for conversations without tools and documents.

    Raises:
        InputError: it has several, and none of them is its default.
    """
    try:
        return str(tokenizer.get_chat_template())  # type: ignore[no-untyped-call]
    except ValueError as error:
        names = ", ".join(sorted(cast(dict[str, str], tokenizer.chat_template)))
        raise InputError(
            f"expected a chat template, or several with one called default, got {names}; put the one that is meant "
            "into the folder of `policy.source` as chat_template.jinja, or set `policy.template.chat: false`"
        ) from error


def pinned(source: str, today: datetime) -> str:
    """A template whose `strftime_now` knows one time only; transformers passes no functions to templates."""
    if "strftime_now" not in source:
        return source
    values = [(pattern, today.strftime(pattern)) for pattern in (*map("%{}".format, _DIRECTIVES), "%%")]
    steps = "".join(f" | replace({pattern!r}, {value!r})" for pattern, value in values)
    # The line break ends the block, and the template begins on a line of its own as before.
    return f"{{% macro strftime_now(format) %}}{{{{ format{steps} }}}}{{% endmacro %}}\n{source}"


def dated(source: str, today: datetime | None) -> dict[str, str]:
    """The date as Llama 3.1's template takes it, which asks no clock and writes a day of its own if it is not told."""
    return {} if today is None or "date_string" not in source else {"date_string": today.strftime("%d %b %Y")}
