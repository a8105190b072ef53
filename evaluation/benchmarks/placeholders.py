"""Placeholders of prompt templates: which names in braces `str.format` would fill in."""

from string import Formatter

from lit_longpo.errors import InputError


def placeholders(template: str) -> set[str]:
    """Names that a template leaves open for `str.format`; none if its braces are not in pairs."""
    try:
        return {name for _, name, _, _ in Formatter().parse(template) if name is not None}
    except ValueError:
        return set()


def check_placeholders(template: str, where: str) -> str:
    """The template, if `{context}` is in it and nothing but `{context}` and `{input}` is to be filled in.

    Raises:
        InputError: it is not such a template.
    """
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise InputError(f"{where}: expected a template with paired braces, got {template!r:.80} ({error})") from error
    names = [name for _, name, _, _ in parts if name is not None]
    plain = all(not spec and not conversion for _, _, spec, conversion in parts)
    if not plain or "context" not in names or not set(names) <= {"context", "input"}:
        got = ", ".join("{" + name + "}" for name in names) or "none"
        raise InputError(
            f"{where}: expected {{context}} and perhaps {{input}} to fill in, got {got}; use the official file"
        )
    return template
