"""Finds out what a chat template writes around texts by rendering it; nothing is assumed about its syntax."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from lit_longpo.errors import InputError
from lit_longpo.policy.prompts.rendered import Rendered, Utterance, located, numbered
from lit_longpo.policy.prompts.template_renderer import LATER, MARK, TemplateRenderer
from lit_longpo.policy.prompts.thoughts import THOUGHT, opens_thoughts

_QUESTION = "question"


class ChatTemplate:
    """Renders conversations and checks that every text comes back.

    Attributes:
        source: the template itself.
        arguments: what `apply_chat_template` is told beside the messages: the template as it is used, its variables.
        head: what the template writes before a user's text.
        tail: what it writes between that text and the answer.
        prefix: what it writes between the prompt's end and an answer; `None` if no answer fits there.
        suffix: what it writes behind an answer.

    Raises:
        InputError: the template changes or drops the user's text or the system message.
    """

    def __init__(self, renderer: TemplateRenderer) -> None:
        self.source, self.arguments, self._render = renderer.source, renderer.arguments, renderer.render
        if renderer.system:
            self._check_system()
        self.head, self.tail = self._around(self._render([("user", MARK)], answer_next=True), MARK, "the user's text")
        self._opened = self._render([("user", _QUESTION)], answer_next=True)
        self.prefix, self.suffix = self._around_answer()
        self._later = self._around_later_turn()

    def thinking(self, written: Callable[[str, str], Mapping[str, Any]]) -> tuple[str, str] | None:
        """What the template writes before the thoughts of an answer (from the prompt's end on), and behind them.

        Args:
            written: maps an answer and its thoughts to the message fields in which the template may look for them.

        Returns:
            `None` if the template writes no thoughts behind a prompt.
        """
        try:
            text = self._render([("user", _QUESTION), ("assistant", MARK)], fields=written(MARK, LATER))
        except InputError:
            return None
        before, _, rest = text.partition(LATER)
        behind, answered, _ = rest.partition(MARK)
        opened = self._opened.rstrip()
        return (before.removeprefix(opened), behind) if answered and before.startswith(opened) else None

    def prompt(self, text: str) -> Rendered:
        """The user's text up to where the answer begins.

        Raises:
            InputError: the template writes something else around it than around other texts.
        """
        return self._placed(self._render([("user", text)], answer_next=True), self.head, text, self.tail)

    def next_prompt(self, text: str) -> Rendered:
        """The text between an answer and the next one, with the first one's end and the user's next text.

        Raises:
            InputError: as `prompt`, or the template takes one question only.
        """
        if self._later is None:
            raise _refusal("to take a second question", "none", "use single-turn pairs")
        head, tail = self._later
        whole = self._render([("user", _QUESTION), ("assistant", MARK), ("user", text)], answer_next=True)
        return self._placed(whole.partition(MARK)[2], head, text, tail)

    @property
    def opening(self) -> str:
        """What `add_generation_prompt` appends to open an answer; empty if the template ignores it."""
        closed = self._render([("user", _QUESTION)])
        return self._opened.removeprefix(closed) if self._opened.startswith(closed) else ""

    @property
    def sample(self) -> str:
        """A rendered conversation of one question and its answer, one word each."""
        return f"{self._opened}answer{self.suffix}"

    def texts(self) -> list[str]:
        """Where to look for marks: the template's source, and texts that it writes, since it may put marks together."""
        texts = [self.source, self.sample, self.after_earlier_answer or ""]
        with suppress(InputError):  # one that takes no system message has no mark of one
            texts.append(self._render([("user", _QUESTION)], system=[("system", _QUESTION)]))
        return texts

    @property
    def after_earlier_answer(self) -> str | None:
        """The template's text between an answer and a second question; `None` if it takes one question only."""
        return None if self._later is None else self._later[0]

    def answer(self, text: str) -> Rendered:
        """An answer as the template writes it from the prompt's end on, without what closes it.

        Raises:
            InputError: the template leaves out a part of it, or opens answers in another way than it writes them.
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

    def dialogue(self, messages: Sequence[Utterance], system: str | None) -> tuple[str, dict[int, Rendered]]:
        """A conversation's text up to where an answer begins, and each message in it by its number.

        Args:
            messages: roles and texts.
            system: the conversation's own system message, number -1; `None` for that of all conversations.

        Raises:
            InputError: the template drops or changes a message.
        """
        text, placed = self._placed_messages(messages, system, answer_next=True)
        said = numbered(messages, system)
        if len(placed) < len(said):
            role, content = said[self._first_changed(messages, system)]
            raise _refusal(
                f"to write the {role} message {content!r:.60} once, as it is",
                repr(text[-160:]),
                "it drops such messages, or treats a part in its own way (reasoning, for example): take that out "
                "of the data",
            )
        return text, placed

    def conversation(self, messages: Sequence[Utterance], system: str | None) -> tuple[str, dict[int, Rendered]]:
        """A conversation's text without what closes its last answer, and its messages by number, as in `dialogue`.

        Messages that the template writes anew (reasoning, say) and all behind them are left out.
        """
        text, placed = self._placed_messages(messages, system, answer_next=False)
        return text.removesuffix(self.suffix), placed

    def _placed_messages(
        self, messages: Sequence[Utterance], system: str | None, *, answer_next: bool
    ) -> tuple[str, dict[int, Rendered]]:
        """A conversation's text, and where its messages and its own system message stand, found with marks."""
        said = numbered(messages, system)
        marked = {number: (role, f"\u0000{number}\u0000") for number, (role, _) in said.items()}
        text, frame = (self._render_numbered(talk, answer_next=answer_next) for talk in (said, marked))
        read = self._as_read(said, text, answer_next=answer_next)
        return text, located(text, frame, {number: content for number, (_, content) in read.items()})

    def _first_changed(self, messages: Sequence[Utterance], system: str | None) -> int:
        """The number of the first message which the template changes, where all behind it are one word each.

        A template may write something else before a message that it changes: the one before is not found then.
        """
        for kept in range(len(messages) + 1):
            plain = [*messages[:kept], *((role, _QUESTION) for role, _ in messages[kept:])]
            _, placed = self._placed_messages(plain, system, answer_next=True)
            missing = [number for number in numbered(plain, system) if number not in placed]
            if missing:
                break
        return kept - 1 if kept else missing[0]

    def _as_read(self, said: dict[int, Utterance], text: str, *, answer_next: bool) -> dict[int, Utterance]:
        """A conversation without the thoughts of earlier answers, if the template gives the same text without them."""
        shorter = _without_earlier_thoughts(said)
        return next((talk for talk in shorter if self._render_numbered(talk, answer_next=answer_next) == text), said)

    def _render_numbered(self, said: Mapping[int, Utterance], *, answer_next: bool) -> str:
        system = [said[-1]] if -1 in said else None
        messages = [message for number, message in said.items() if number >= 0]
        return self._render(messages, answer_next=answer_next, system=system)

    def _check_system(self) -> None:
        """Refuse a template that silently drops the system message."""
        text = self._render([("user", _QUESTION)], answer_next=True, system=[("system", MARK)])
        if MARK not in text:
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
            before, after = self._around(self._answered(MARK), MARK, "the answer")
        except ValueError:
            return None, ""
        return (before[len(self._opened) :] if before.startswith(self._opened) else None), after

    def _answered(self, text: str) -> str:
        return self._render([("user", _QUESTION), ("assistant", text)])

    def _no_answers(self) -> InputError:
        before = self._answered(MARK).partition(MARK)[0]
        return _refusal(
            f"to write answers behind the prompt's end {self._opened[-40:]!r}",
            repr(before[-40:]),
            "it opens answers in another way than it writes them (for reasoning, say), and none can be trained: try "
            "options such as {enable_thinking: false} (or true, where the prompt ends thoughts)"
            + (", or begin every answer with its thoughts, <think>...</think>" * opens_thoughts(self._opened)),
        )

    def _around_later_turn(self) -> tuple[str, str] | None:
        """What stands around a second question, from the end of the answer before; `None` if there can be none."""
        messages = [("user", _QUESTION), ("assistant", MARK), ("user", LATER)]
        try:
            _, after = self._around(self._render(messages, answer_next=True), MARK, "an earlier answer")
            return self._around(after, LATER, "a second question")
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


def _without_earlier_thoughts(said: Mapping[int, Utterance]) -> Iterator[dict[int, Utterance]]:
    """A conversation without the thoughts of answers before the last question; nothing if none has any.

    Templates keep or take away white space around what is left, whatever they do elsewhere.
    """
    last = max(number for number, (role, _) in said.items() if role == "user")
    earlier = {number: text for number, (role, text) in said.items() if role == "assistant" and number < last}
    answers = {number: text.rpartition(THOUGHT)[2] for number, text in earlier.items() if THOUGHT in text}
    for shortened in (str.lstrip, str.strip, str) if answers else ():
        yield {**said, **{number: ("assistant", shortened(text)) for number, text in answers.items()}}


def _refusal(expected: str, got: str, advice: str) -> InputError:
    return InputError(
        f"expected the chat template {expected}, got {got}; {advice}; or set `policy.template.options`, put another "
        "chat_template.jinja into the folder of `policy.source`, or set `policy.template.chat: false`"
    )


def _squeezed(text: str) -> str:
    return "".join(text.split())
