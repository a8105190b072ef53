"""Applies a tokenizer's chat template, whatever way it takes messages and the date."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from transformers import PreTrainedTokenizerBase

from lit_longpo.errors import InputError
from lit_longpo.policy.prompts.rendered import Utterance

# Marks stand for texts. One that does not come back as it is shows a template that escapes, cuts or drops them.
MARK = '\u0000 <Mark> & "it\'s" {{1}} \\ [\n\n] \u0000'
LATER = '\u0000 <Later> & "it\'s" {{1}} \\ [\n\n] \u0000'
_DIRECTIVES = ("-d", "-m", "-H", "-I", "-M", *"aAbBcdeFHIjmMpSTuUwWxXyYZzDRVGghnt")


class TemplateRenderer:
    """Renders conversations.

    Args:
        system: system message of conversations without one of their own; `None` means none.
        today: the time that templates get to know; `None` means that of the call.

    Attributes:
        source: the template.
        system: the system message as conversations begin with it; empty for none.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        system: str | None,
        options: Mapping[str, Any] | None,
        today: datetime | None,
    ) -> None:
        source = _template_source(tokenizer)
        self.source = source if today is None else _pinned(source, today)
        self._tokenizer, self._options = tokenizer, {**_dated(source, today), **(options or {})}
        self.system: list[Utterance] = [] if system is None else [("system", system)]
        self._in_parts = self._loses_text() and not self._loses_text(in_parts=True)

    @property
    def arguments(self) -> Mapping[str, Any]:
        """What `apply_chat_template` is told beside the messages: the template as it is used, and its variables."""
        return {**self._options, "chat_template": self.source}

    def render(
        self,
        messages: Sequence[Utterance],
        *,
        answer_next: bool = False,
        system: Sequence[Utterance] | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> str:
        """The template's text of a conversation.

        Args:
            messages: roles and texts, without the system message.
            answer_next: open an answer at the end.
            system: a system message of its own, or none at all; `None` for that of all conversations.
            fields: of the last message, beside its text or in its place.

        Raises:
            InputError: the template refuses it.
        """
        before = self.system if system is None else system
        chat = [{"role": role, "content": self._content(text)} for role, text in (*before, *messages)]
        chat[-1] |= fields or {}
        return self._apply(chat, answer_next=answer_next)

    def _apply(self, chat: list[dict[str, Any]], *, answer_next: bool) -> str:
        try:
            rendered = self._tokenizer.apply_chat_template(
                chat, tokenize=False, add_generation_prompt=answer_next, **self.arguments
            )
            return str(rendered)
        except Exception as error:  # a template is a program, and fails in any way
            roles = ", ".join(message["role"] for message in chat)
            raise InputError(
                f"expected the chat template to take a conversation of {roles}, got {type(error).__name__}: "
                f"{' '.join(str(error).split())}; "
                f"{self._remedy(chat)}, put another chat_template.jinja into the folder of `policy.source`, or set "
                "`policy.template.chat: false`"
            ) from error

    def _remedy(self, chat: Sequence[Mapping[str, Any]]) -> str:
        """What to change where the template refuses a conversation: a system message may be the record's own."""
        own = any(message["role"] == "system" for message in chat) and not self.system
        if own:
            return "leave the record's system message out or begin the user's with it"
        return "change `policy.template.system` or `.options`"

    def _content(self, text: str) -> Any:
        return [{"type": "text", "text": text}] if self._in_parts else text

    def _loses_text(self, *, in_parts: bool = False) -> bool:
        """Whether messages of plain text are lost; templates for pictures take lists of parts."""
        self._in_parts = in_parts
        try:
            text = self.render([("user", MARK), ("assistant", LATER)])
        except ValueError:
            return True
        return text.count(MARK) != 1 or text.count(LATER) != 1


def _template_source(tokenizer: PreTrainedTokenizerBase) -> str:
    """The template that a tokenizer has for conversations without tools and documents."""
    try:
        return str(tokenizer.get_chat_template())  # type: ignore[no-untyped-call]
    except ValueError as error:
        names = ", ".join(sorted(cast(dict[str, str], tokenizer.chat_template)))
        raise InputError(
            f"expected a chat template, or several with one called default, got {names}; put the one that is meant "
            "into the folder of `policy.source` as chat_template.jinja, or set `policy.template.chat: false`"
        ) from error


def _pinned(source: str, today: datetime) -> str:
    """A template whose `strftime_now` knows one time only; transformers passes no functions to templates."""
    if "strftime_now" not in source:
        return source
    values = [(pattern, today.strftime(pattern)) for pattern in (*map("%{}".format, _DIRECTIVES), "%%")]
    steps = "".join(f" | replace({pattern!r}, {value!r})" for pattern, value in values)
    # The line break ends the block, and the template begins on a line of its own as before.
    return f"{{% macro strftime_now(format) %}}{{{{ format{steps} }}}}{{% endmacro %}}\n{source}"


def _dated(source: str, today: datetime | None) -> dict[str, str]:
    """The date as Llama 3.1's template takes it, which asks no clock and writes a day of its own if it is not told."""
    return {} if today is None or "date_string" not in source else {"date_string": today.strftime("%d %b %Y")}
