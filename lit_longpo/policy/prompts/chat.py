"""What a chat template writes around texts, found by rendering it: nothing is assumed about its syntax."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from transformers import PreTrainedTokenizerBase

from lit_longpo.errors import InputError
from lit_longpo.policy.prompts.chat_source import dated, pinned, template_source
from lit_longpo.policy.prompts.thoughts import THOUGHT, opens_thoughts

# Marks stand for texts. One that does not come back as it is shows a template that escapes, cuts or drops them.
_MARK = '\u0000 <Mark> & "it\'s" {{1}} \\ [\n\n] \u0000'
_LATER = '\u0000 <Later> & "it\'s" {{1}} \\ [\n\n] \u0000'
_QUESTION = "question"

Utterance = tuple[str, str]  # role and text


@dataclass(frozen=True)
class Rendered:
    """A text of the template's with a text of ours inside.

    Args:
        text: all of it.
        start: where ours begins.
        end: where ours ends.
        dropped: characters (white space) that the template took away before `start`.
    """

    text: str
    start: int
    end: int
    dropped: int = 0


class Chat:
    """Renders conversations and checks that every text comes back.

    Args:
        tokenizer: holds the chat template.
        system: system message.
        options: variables for the template.
        today: the time that templates get to know; `None` means that of the call.

    Raises:
        ValueError: the template changes or drops the user's text or the system message.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        system: str | None = None,
        options: Mapping[str, Any] | None = None,
        today: datetime | None = None,
    ) -> None:
        source = template_source(tokenizer)
        self.source = source if today is None else pinned(source, today)
        self._tokenizer, self._options = tokenizer, {**dated(source, today), **(options or {})}
        self._system: list[Utterance] = [] if system is None else [("system", system)]
        self._in_parts = self._loses_text() and not self._loses_text(in_parts=True)
        if system is not None:
            self._check_system()
        self.head, self.tail = self._around(self.render([("user", _MARK)], answer_next=True), _MARK, "the user's text")
        self._opened = self.render([("user", _QUESTION)], answer_next=True)
        self.prefix, self.suffix = self._around_answer()
        self._later = self._around_later_turn()

    @property
    def arguments(self) -> Mapping[str, Any]:
        """What `apply_chat_template` is told beside the messages: the template as it is used, and its variables."""
        return {**self._options, "chat_template": self.source}

    def render(
        self, messages: Sequence[Utterance], *, answer_next: bool = False, system: Sequence[Utterance] | None = None
    ) -> str:
        """The template's text of a conversation.

        Args:
            messages: roles and texts, without the system message.
            answer_next: open an answer at the end.
            system: a system message of its own, or none at all; `None` for that of all conversations.

        Raises:
            ValueError: the template refuses it.
        """
        before = self._system if system is None else system
        chat = [{"role": role, "content": self._content(text)} for role, text in (*before, *messages)]
        return self._apply(chat, answer_next=answer_next)

    def thinking(self, field: str) -> tuple[str, str] | None:
        """What the template writes around the thoughts of an answer: from the prompt's end up to them, and behind them.

        Args:
            field: of a message, that it may read thoughts from.

        Returns:
            `None` where it writes none behind a prompt.
        """
        asked = {"role": "user", "content": self._content(_QUESTION)}
        answer = {"role": "assistant", "content": self._content(_MARK), field: _LATER}
        try:
            text = self._apply([asked, answer], answer_next=False)
        except InputError:
            return None
        before, _, rest = text.partition(_LATER)
        behind, answered, _ = rest.partition(_MARK)
        opened = self._opened.rstrip()
        return (before.removeprefix(opened), behind) if answered and before.startswith(opened) else None

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
        own = any(message["role"] == "system" for message in chat) and not self._system
        if own:
            return "leave the record's system message out or begin the user's with it"
        return "change `policy.template.system` or `.options`"

    def prompt(self, text: str) -> Rendered:
        """The user's text up to where the answer begins.

        Raises:
            ValueError: the template writes something else around it than around other texts.
        """
        return self._placed(self.render([("user", text)], answer_next=True), self.head, text, self.tail)

    def next_prompt(self, text: str) -> Rendered:
        """What stands between an answer and the next one, the answer's end included.

        Raises:
            ValueError: as `prompt`, or the template takes one question only.
        """
        if self._later is None:
            raise _refusal("to take a second question", "none", "use single-turn pairs")
        head, tail = self._later
        whole = self.render([("user", _QUESTION), ("assistant", _MARK), ("user", text)], answer_next=True)
        return self._placed(whole.partition(_MARK)[2], head, text, tail)

    @property
    def opening(self) -> str:
        """What the template writes to open an answer; nothing if it opens none, or opens one whatever it is told."""
        closed = self.render([("user", _QUESTION)])
        return self._opened.removeprefix(closed) if self._opened.startswith(closed) else ""

    @property
    def sample(self) -> str:
        """One question and its answer, each of a word."""
        return f"{self._opened}answer{self.suffix}"

    @property
    def after_earlier_answer(self) -> str | None:
        """From the end of an answer to a second question; `None` if there can be none."""
        return None if self._later is None else self._later[0]

    def answer(self, text: str) -> Rendered:
        """An answer from where the prompt ends, without what closes it.

        Raises:
            ValueError: the template leaves out a part of it, or opens answers in another way than it writes them.
        """
        if self.prefix is None and THOUGHT not in text:  # the prompt may open thoughts, which this answer brings
            raise self._no_answers()
        whole = self._answered(text)
        core = whole.removesuffix(self.suffix)
        kept = whole.endswith(self.suffix) and _squeezed(core).endswith(_squeezed(text))
        if not kept or not core.startswith(self._opened):
            raise _refusal(
                f"to write all of the answer {text!r:.60} behind {self._opened[-40:]!r}",
                repr(whole[-160:]),
                "it treats a part of the answer in its own way (reasoning, for example): take that out of the data",
            )
        written = core[len(self._opened) :]
        first = len(self.prefix) if self.prefix and written.startswith(self.prefix) else 0
        start = written.find(text.strip(), first)  # the prefix may hold the same letters (gpt-oss: "channel", "a")
        if start < 0:  # a template that reads reasoning out of the answer and writes it anew
            return Rendered(written, first, len(written))
        return Rendered(written, start, start + len(text.strip()))

    def dialogue(self, messages: Sequence[Utterance], system: str | None = None) -> tuple[str, dict[int, Rendered]]:
        """A conversation's text up to where an answer begins, and each message in it by its number.

        Args:
            messages: roles and texts.
            system: the conversation's own system message, number -1; `None` for that of all conversations.

        Raises:
            ValueError: the template drops or changes a message.
        """
        text, placed = self._placed_messages(messages, system, answer_next=True)
        for number, (role, content) in _numbered(messages, system).items():
            if number not in placed:
                raise _refusal(
                    f"to write the {role} message {content!r:.60} once, as it is",
                    repr(text[-160:]),
                    "it drops such messages, or treats a part in its own way (reasoning, for example): take that out "
                    "of the data",
                )
        return text, placed

    def conversation(self, messages: Sequence[Utterance], system: str | None = None) -> tuple[str, dict[int, Rendered]]:
        """A conversation's text without what closes its last answer, and its messages by number, as in `dialogue`.

        Messages that the template writes anew (reasoning, say) and all behind them are left out.
        """
        text, placed = self._placed_messages(messages, system, answer_next=False)
        return text.removesuffix(self.suffix), placed

    def _placed_messages(
        self, messages: Sequence[Utterance], system: str | None, *, answer_next: bool
    ) -> tuple[str, dict[int, Rendered]]:
        """A conversation's text, and where its messages and its own system message stand, found with marks."""
        said = _numbered(messages, system)
        marked = {number: (role, f"\u0000{number}\u0000") for number, (role, _) in said.items()}
        text, frame = (self._render_numbered(talk, answer_next=answer_next) for talk in (said, marked))
        return text, _locate(text, frame, {number: content for number, (_, content) in said.items()})

    def _render_numbered(self, said: Mapping[int, Utterance], *, answer_next: bool) -> str:
        system = [said[-1]] if -1 in said else None
        messages = [message for number, message in said.items() if number >= 0]
        return self.render(messages, answer_next=answer_next, system=system)

    def _content(self, text: str) -> Any:
        return [{"type": "text", "text": text}] if self._in_parts else text

    def _loses_text(self, *, in_parts: bool = False) -> bool:
        """Whether messages of plain text are lost; templates for pictures take lists of parts."""
        self._in_parts = in_parts
        try:
            text = self.render([("user", _MARK), ("assistant", _LATER)])
        except ValueError:
            return True
        return text.count(_MARK) != 1 or text.count(_LATER) != 1

    def _check_system(self) -> None:
        """Some templates pass over a system message, as if there were none."""
        text = self.render([("user", _QUESTION)], answer_next=True, system=[("system", _MARK)])
        if _MARK not in text:
            raise _refusal(
                "to write the system message",
                repr(text[:160]),
                "it drops or changes it: leave `policy.template.system` out and begin `policy.template.user` with it",
            )

    def _around(self, text: str, mark: str, what: str) -> tuple[str, str]:
        if text.count(mark) != 1:
            raise _refusal(f"to write {what} once, as it is", repr(text[-160:]), "it escapes, drops or doubles texts")
        before, _, after = text.partition(mark)
        return before, after

    def _around_answer(self) -> tuple[str | None, str]:
        """What stands between the prompt's end and an answer (`None`: no answer fits there), and behind it."""
        try:
            before, after = self._around(self._answered(_MARK), _MARK, "the answer")
        except ValueError:
            return None, ""
        return (before[len(self._opened) :] if before.startswith(self._opened) else None), after

    def _answered(self, text: str) -> str:
        return self.render([("user", _QUESTION), ("assistant", text)])

    def _no_answers(self) -> InputError:
        before = self._answered(_MARK).partition(_MARK)[0]
        return _refusal(
            f"to write answers behind the prompt's end {self._opened[-40:]!r}",
            repr(before[-40:]),
            "it opens answers in another way than it writes them (for reasoning, say), and none can be trained: try "
            "options such as {enable_thinking: false}"
            + (", or begin every answer with its thoughts, <think>...</think>" * opens_thoughts(self._opened)),
        )

    def _around_later_turn(self) -> tuple[str, str] | None:
        """What stands around a second question, from the end of the answer before; `None` if there can be none."""
        messages = [("user", _QUESTION), ("assistant", _MARK), ("user", _LATER)]
        try:
            _, after = self._around(self.render(messages, answer_next=True), _MARK, "an earlier answer")
            return self._around(after, _LATER, "a second question")
        except ValueError:
            return None

    def _placed(self, whole: str, head: str, text: str, tail: str) -> Rendered:
        """Where the text stands; templates may take white space from its ends."""
        body = whole[len(head) : len(whole) - len(tail)]
        if not whole.startswith(head) or not whole.endswith(tail) or body.strip() != text.strip() or body not in text:
            raise _refusal(
                f"to write {text!r:.60} between {head[-40:]!r} and {tail!r:.40}",
                repr(whole[: len(head) + 60][-100:]),
                "it treats a part of the text in its own way (a switch for reasoning, for example): take that out of "
                "the data",
            )
        return Rendered(whole, len(head), len(head) + len(body), text.index(body))


def _numbered(messages: Sequence[Utterance], system: str | None) -> dict[int, Utterance]:
    return ({} if system is None else {-1: ("system", system)}) | dict(enumerate(messages))


def _locate(text: str, frame: str, contents: Mapping[int, str]) -> dict[int, Rendered]:
    """Where each content stands in a text whose frame, with numbered marks for contents, is known.

    Templates may take white space from a content's ends, and write contents in another order.
    """
    first, *rest = re.split("\u0000(-?\\d+)\u0000", frame)
    placed, position = dict[int, Rendered](), len(first)
    if not text.startswith(first):
        return placed
    for number, following in zip(map(int, rest[::2]), rest[1::2], strict=True):
        content = contents[number]
        bodies = (content, content.lstrip(), content.rstrip(), content.strip())
        body = next((body for body in bodies if text.startswith(body + following, position)), None)
        if number in placed or body is None:  # written twice or anew: nothing is known from here on
            return {key: where for key, where in placed.items() if key != number}
        placed[number] = Rendered(text, position, position + len(body), content.index(body))
        position += len(body) + len(following)
    return placed


def _refusal(expected: str, got: str, advice: str) -> InputError:
    return InputError(
        f"expected the chat template {expected}, got {got}; {advice}; or set `policy.template.options`, put another "
        "chat_template.jinja into the folder of `policy.source`, or set `policy.template.chat: false`"
    )


def _squeezed(text: str) -> str:
    return "".join(text.split())
