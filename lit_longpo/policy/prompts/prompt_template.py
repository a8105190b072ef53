"""How a context and a question become what the user says."""

import datetime
import re
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from lit_longpo.errors import InputError
from lit_longpo.files.strict_json import shortened
from lit_longpo.policy.prompts.rendered import Span

MarkupRule = Literal["text", "control"]
# A whole text in quotes; not "{context}" and "{question}", nor a question alone in quotes.
_QUOTED = re.compile(r"""(?!"\{\w+\}"$|'\{\w+\}'$)("[^"]*"|'[^']*')""", re.DOTALL)
UserText = tuple[str, list[Span]]  # what the user says, and where context (first) and questions stand in it


@dataclass
class PromptTemplate:
    """How a context and a question become a prompt.

    Args:
        user: the user's text. It must contain `{context}` once, and `{question}` before or behind it, or both. Later
            questions about the same context get what follows `{context}`; if no question follows it, they get
            everything except the line with the context. Records whose message is a whole, question included, do not use
            it.
        system: system message; an error for models without a chat template. A record's own system message comes first.
        chat: wrap the text in the tokenizer's chat template: always (true), never (false), or if there is one (null).
        options: variables for the chat template, for example `{enable_thinking: false}`.
        markup: how control tokens in contexts, questions and answers are read (`<|im_end|>`): "text" reads them as
            text, "control" as the tokens, for data that contains them on purpose.
        date: the date for chat templates that write one, so that prompts do not change from day to day; null gives the
            current day.
    """

    user: str = "{context}\n\n{question}"
    system: str | None = None
    chat: bool | None = None
    options: dict[str, Any] = field(default_factory=dict)
    markup: MarkupRule = "text"
    date: str | None = "2024-07-26"

    def __post_init__(self) -> None:
        if self.user.count("{context}") != 1 or "{question}" not in self.user:
            raise InputError(
                "expected `user` to hold {context} once, and {question} before or behind it; "
                f"got {shortened(repr(self.user))}; set `policy.template.user`"
            )
        for name in ("user", "system"):
            check_template(getattr(self, name) or "", f"policy.template.{name}")
        if self.markup not in get_args(MarkupRule):
            raise InputError(f"expected `policy.template.markup` of text or control, got {self.markup!r}")
        self.day()

    def uses_chat(self, *, has_chat_template: bool) -> bool:
        """Whether prompts are chat messages.

        Raises:
            InputError: they are to be, or to have a system message, and the tokenizer has no chat template.
        """
        uses_chat = has_chat_template if self.chat is None else self.chat
        if uses_chat and not has_chat_template:
            raise InputError("`chat: true` needs a chat template, the tokenizer has none; set `chat: false`")
        if self.system is not None and not uses_chat:
            raise InputError("a system message needs a chat template; put the text into `user` instead")
        return uses_chat

    def around(self, question: str) -> tuple[str, str]:
        """The user's text before and after the context."""
        before, after = self.user.split("{context}")
        return before.replace("{question}", question), after.replace("{question}", question)

    def filled(self, context: str, question: str) -> UserText:
        """The user's text, and where the context, first, and the questions stand in it."""
        before, after = self.user.split("{context}")
        head, spans = _with_question(before, question, 0)
        tail, later = _with_question(after, question, len(head) + len(context))
        return head + context + tail, [(len(head), len(head) + len(context)), *spans, *later]

    def later(self, question: str) -> UserText:
        """The user's text of a later question, and where the questions stand in it."""
        before, after = self.user.split("{context}")
        if "{question}" in after:
            return _with_question(after, question, 0)
        lines = before[: max(0, before.rfind("\n"))]
        lead = lines if "{question}" in lines else before
        return _with_question(lead.rstrip() + after, question, 0)

    @property
    def last_words(self) -> str:
        """The template's text behind context and question."""
        return re.split(r"\{context\}|\{question\}", self.user)[-1]

    def day(self) -> datetime.datetime | None:
        """`date` at midnight; `None` for the day of the run.

        Raises:
            InputError: it is none.
        """
        try:
            return None if self.date is None else datetime.datetime.strptime(self.date, "%Y-%m-%d")
        except ValueError as error:
            raise InputError(
                f"expected `policy.template.date` as YYYY-MM-DD or null, got {self.date!r}; for example 2024-07-26"
            ) from error


def check_template(text: str, setting: str) -> None:
    """Refuse templates with quotes or backslashes that belong to another language's notation of a text.

    Raises:
        InputError: a backslash and an n are in it, or it stands in quotes, which every prompt would hold.
    """
    if "\\n" in text:
        raise InputError(
            f"expected line breaks in `{setting}`, got a backslash and an n, which a shell and plain YAML keep: "
            f"{shortened(text)}; in bash type $'...\\n...', in YAML write \"...\\n...\" in double quotes"
        )
    if _QUOTED.fullmatch(text.strip()):
        raise InputError(
            f"expected `{setting}` without quotes around it, which every prompt would hold, got {shortened(text)}; "
            "quote it once, not twice"
        )


def _with_question(piece: str, question: str, start: int) -> UserText:
    """A piece of the template, and where the questions stand; the piece begins at `start`."""
    text, *rest = piece.split("{question}")
    spans = list[Span]()
    for following in rest:
        spans.append((start + len(text), start + len(text) + len(question)))
        text += question + following
    return text, spans
