"""From (context, question) and answer texts to token ids, the same way in training and evaluation."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from transformers import PreTrainedTokenizerBase

from lit_longpo.errors import InputError
from lit_longpo.policy.chat import Chat, Rendered
from lit_longpo.policy.control_tokens import Data, Markup, control_tokens
from lit_longpo.policy.tokenizing import LocatedTokens, TextEncoder, Tokens, shared_length

MarkupRule = Literal["text", "control"]
_UserText = tuple[str, list[tuple[int, int]]]  # what the user says, and where context and question stand in it


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt in three parts, so that truncation can cut the context and nothing else.

    Args:
        head: tokens before the context.
        context: the context's tokens.
        tail: tokens after it, up to where the answer begins.
        head_format: how many of the head's first tokens the chat template wrote.
        tail_format: how many of the tail's last tokens the chat template wrote.
    """

    head: tuple[int, ...]
    context: tuple[int, ...]
    tail: tuple[int, ...]
    head_format: int = 0
    tail_format: int = 0

    @property
    def ids(self) -> tuple[int, ...]:
        """The whole prompt's tokens."""
        return self.head + self.context + self.tail

    @property
    def format_mask(self) -> tuple[bool, ...]:
        """True where the chat template wrote the token; a system message counts as part of it."""
        head, tail = min(self.head_format, len(self.head)), min(self.tail_format, len(self.tail))
        text = len(self.ids) - head - tail
        return (True,) * head + (False,) * text + (True,) * tail


@dataclass
class PromptTemplate:
    """How a context and a question become a prompt.

    Args:
        user: the user's text; must hold `{context}` and `{question}`, context first. Later questions
            about the same context get what follows `{context}`.
        system: system message; ignored (with an error) by models without a chat template.
        chat: wrap the text in the tokenizer's chat template: always, never, or when there is one.
        options: variables for the chat template, for example `{enable_thinking: false}`.
        markup: control tokens that contexts, questions and answers write out (`<|im_end|>`): "text" reads
            them as text, "control" as the tokens (for data that holds them on purpose).
        date: what chat templates that write the date are told, so that it does not change the prompts from
            day to day; null tells them the day.
    """

    user: str = "{context}\n\n{question}"
    system: str | None = None
    chat: bool | None = None
    options: dict[str, Any] = field(default_factory=dict)
    markup: MarkupRule = "text"
    date: str | None = "2024-07-26"

    def __post_init__(self) -> None:
        context, question = self.user.find("{context}"), self.user.find("{question}")
        if context < 0 or question < context:
            raise InputError(
                "expected `user` to hold {context} and, after it, {question}; "
                f"got {self.user!r}; set `policy.template.user`"
            )
        if self.markup not in get_args(MarkupRule):
            raise InputError(f"expected `policy.template.markup` of text or control, got {self.markup!r}")
        self.day()

    def around(self, question: str) -> tuple[str, str]:
        """The user's text before and after the context."""
        before, _, after = self.user.partition("{context}")
        return before, after.replace("{question}", question)

    def after(self, question: str) -> tuple[str, list[tuple[int, int]]]:
        """The user's text after the context, and where the question stands in it."""
        first, *rest = self.user.partition("{context}")[2].split("{question}")
        text, spans = first, list[tuple[int, int]]()
        for piece in rest:
            spans.append((len(text), len(text) + len(question)))
            text += question + piece
        return text, spans

    def day(self) -> datetime.datetime | None:
        """`date` at midnight; `None` for the day of the run.

        Raises:
            ValueError: it is none.
        """
        try:
            return None if self.date is None else datetime.datetime.strptime(self.date, "%Y-%m-%d")
        except ValueError as error:
            raise InputError(
                f"expected `policy.template.date` as YYYY-MM-DD or null, got {self.date!r}; for example 2024-07-26"
            ) from error


class PromptFormat:
    """Turns texts into token ids with one tokenizer and one template.

    A prompt's tokens are those of `apply_chat_template`, or of the tokenizer without a chat template. Responses
    share them, so they are tokenised apart, as they would be behind the prompt's end.

    Args:
        tokenizer: any transformers tokenizer with an end-of-sequence token.
        template: how context and question are laid out.

    Raises:
        ValueError: the tokenizer lacks what the template needs, or its chat template changes texts.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: PromptTemplate) -> None:
        if tokenizer.eos_token_id is None:
            raise InputError(
                f"expected a tokenizer with an end-of-sequence token, got none in "
                f"{type(tokenizer).__name__}; set `eos_token` in the tokenizer's folder"
            )
        self.tokenizer = tokenizer
        self.template = template
        has_chat = getattr(tokenizer, "chat_template", None) is not None
        self.uses_chat = has_chat if template.chat is None else template.chat
        if self.uses_chat and not has_chat:
            raise InputError("`chat: true` needs a chat template, the tokenizer has none; set `chat: false`")
        if template.system is not None and not self.uses_chat:
            raise InputError("a system message needs a chat template; put the text into `user` instead")
        self._texts = TextEncoder(tokenizer)
        self._chat = Chat(tokenizer, template.system, template.options, template.day()) if self.uses_chat else None
        self._in_prompts, self._in_answers = control_tokens(tokenizer, self._chat)
        self._start = () if self._chat else _added_in_front(tokenizer)
        self._closing, self._end = self._end_of_answer()
        self.end_id = int(self._end[-1] if self._end else self._ids_after("", self._closing)[-1])

    def encode(self, text: str) -> tuple[int, ...]:
        """Tokens of plain text, no special tokens added."""
        return self._texts.encode(text, self._data(self._in_prompts, (0, len(text)))).ids

    def encode_message(self, text: str) -> tuple[int, ...]:
        """Tokens of a user's message with an answer to follow, control tokens in it read as such."""
        return self._start + self._texts.encode(self._render(text).text).ids

    def encode_prompt(self, context: str, question: str) -> EncodedPrompt:
        """Tokens of the whole prompt, tokenised at once and then parted around the context.

        A token across the context's border belongs to head or tail.

        Raises:
            ValueError: the chat template changes the text.
        """
        text, spans = self._user_text(context, question)
        rendered = self._render(text)
        data = [_moved(span, rendered) for span in spans]
        tokens = self._texts.encode(rendered.text, self._data(self._in_prompts, *data))
        return self._parted(tokens, rendered, data[0])

    def encode_turn(self, question: str) -> EncodedPrompt:
        """Tokens between an answer (its end token included) and the next one; there is no context."""
        text, spans = self._user_text(None, question)
        if self._chat is None:
            return EncodedPrompt((), (), self._ids_after("", text, self._data(self._in_prompts, *spans)))
        between = self._chat.next_prompt(text)
        closed = between.text.find(self._closing) + len(self._closing)
        if not between.text[:closed].strip() == self._closing.strip():
            raise InputError(
                f"expected the chat template to close an answer with {self._closing!r} before a second question too, "
                f"got {between.text[:40]!r}; use single-turn pairs, or set `policy.template.chat: false`"
            )
        between = Rendered(between.text[closed:], between.start - closed, between.end - closed, between.dropped)
        data = [_moved(span, between) for span in spans]
        tokens = self._texts.encode_after(self._closing, between.text, self._data(self._in_prompts, *data))
        return self._parted(tokens, between, (between.start, between.start))

    def encode_response(self, text: str) -> tuple[int, ...]:
        """Tokens of an answer as the chat template writes it behind the prompt, closed by what ends answers.

        An answer that already ends with that is not ended twice.

        Raises:
            ValueError: the chat template leaves out a part of the answer.
        """
        text = self._without_end(text)
        if self._chat is None:
            data = self._data(self._in_answers, (0, len(text)))
            return self._ids_after(self._last_words(), text, data) + self._end
        answer = self._chat.answer(text)
        data = self._data(self._in_answers, (answer.start, answer.end))
        return self._ids_after(self._chat.tail, answer.text + self._closing, data) + self._end

    def decode(self, ids: list[int] | tuple[int, ...]) -> str:
        """Text of generated tokens, special tokens left out."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    def encode_jointly(self, context: str, turns: Sequence[tuple[str, str]]) -> tuple[int, ...]:
        """A whole conversation tokenised as one text, up to and with the token that ends answers.

        Ours are tokenised apart at every answer, so that responses share the prompt's tokens; where a tokenizer
        merges across the seams, or a template writes earlier turns differently, the two differ.

        Args:
            context: what the first question is about.
            turns: questions and their answers.
        """
        questions = [
            self._user_text(context if number == 0 else None, question) for number, (question, _) in enumerate(turns)
        ]
        answers = [self._without_end(answer) for _, answer in turns]
        if self._chat is None:
            return self._start + self._joint_plain(questions, answers)
        messages = list[tuple[str, str]]()
        for (text, _), answer in zip(questions, answers, strict=True):
            messages += [("user", text), ("assistant", answer)]
        text, placed = self._chat.conversation(messages)
        data = list[Data]()
        for number, where in enumerate(placed):
            spans = [(0, len(messages[number][1]))] if number % 2 else questions[number // 2][1]
            markup = self._in_answers if number % 2 else self._in_prompts
            data += self._data(markup, *(_moved(span, where) for span in spans))
        return self._texts.encode(text + self._closing, data).ids + self._end

    def _joint_plain(
        self, questions: Sequence[tuple[str, list[tuple[int, int]]]], answers: list[str]
    ) -> tuple[int, ...]:
        ids = tuple[int, ...]()
        for number, ((text, spans), answer) in enumerate(zip(questions, answers, strict=True)):
            data = self._data(self._in_prompts, *spans)
            data += self._data(self._in_answers, (len(text), len(text + answer)))
            whole = text + answer
            ids += (self._texts.encode_after("", whole, data) if number else self._texts.encode(whole, data)).ids
            ids += self._end
        return ids

    def _user_text(self, context: str | None, question: str) -> _UserText:
        """The user's text, of a first question with its context, and where context and question stand in it."""
        after, spans = self.template.after(question)
        if context is None:
            lead = len(after) - len(after.lstrip()) if self._chat is not None else 0
            return after[lead:], [(start - lead, end - lead) for start, end in spans]
        before = self.template.user.partition("{context}")[0]
        end = len(before) + len(context)
        return before + context + after, [(len(before), end), *((end + start, end + stop) for start, stop in spans)]

    def _render(self, text: str) -> Rendered:
        return Rendered(text, 0, len(text)) if self._chat is None else self._chat.prompt(text)

    def _ids_after(self, before: str, text: str, data: Sequence[Data] = ()) -> tuple[int, ...]:
        return self._texts.encode_after(before, text, data).ids

    def _data(self, markup: Markup, *spans: tuple[int, int]) -> list[Data]:
        if self.template.markup == "control":
            return []
        return [Data(start, end, markup) for start, end in spans if end > start]

    def _parted(self, tokens: Tokens, rendered: Rendered, context: tuple[int, int]) -> EncodedPrompt:
        """Around the context; what the chat template wrote is what stands around the rendered text."""
        head = tokens.starting_before(context[0])
        tail = max(head, tokens.ending_by(context[1]))
        framed = 0, 0
        if self._chat is not None:
            framed = tokens.ending_by(rendered.start), len(tokens.ids) - tokens.starting_before(rendered.end)
        ids = tokens.ids
        return EncodedPrompt(
            self._start + ids[:head], ids[head:tail], ids[tail:], len(self._start) + framed[0], framed[1]
        )

    def _last_words(self) -> str:
        """What always stands before an answer in the user's text."""
        return self.template.user.rpartition("{question}")[2]

    def _without_end(self, text: str) -> str:
        """The answer without an end of its own, as data from other trainers has it."""
        ends = {end for end in (self._closing.strip(), str(self.tokenizer.eos_token)) if end}
        while closed := [end for end in ends if text.rstrip().endswith(end)]:
            text = text.rstrip().removesuffix(closed[0])
        return text

    def _end_of_answer(self) -> tuple[str, tuple[int, ...]]:
        """What closes an answer in the chat template's text, and the token to put behind it (often none).

        A template may write more behind the last answer than behind others (Phi-3: the end of the text behind
        the end of the turn): what both begin with closes an answer.
        """
        eos = (int(self.tokenizer.eos_token_id),)
        if self._chat is None:
            return "", eos
        last = self._texts.encode_after("", self._chat.suffix)
        following = self._chat.after_earlier_answer
        later = last.ids if following is None else self._ids_after("", following)
        count = shared_length(last.ids, later) or len(last.ids)
        ends = [_text_of(last, self._chat.suffix, number) for number in range(1, count + 1)]
        while ends and ends[-1] == (ends[-2] if len(ends) > 1 else ""):
            ends.pop()
        closing = ends[-1] if ends else ""
        token = last.ids[len(ends) - 1] if ends else None
        return closing, () if token in self.tokenizer.added_tokens_decoder else eos


def _moved(span: tuple[int, int], rendered: Rendered) -> tuple[int, int]:
    """A stretch of our text in the rendered one, less what the template cut off."""
    offset = rendered.start - rendered.dropped
    start, end = (min(max(char + offset, rendered.start), rendered.end) for char in span)
    return start, end


def _text_of(tokens: Tokens, text: str, count: int) -> str:
    """The text of the first tokens, without white space at its end."""
    if isinstance(tokens, LocatedTokens):
        return text[: tokens.spans[count - 1][1]].rstrip()
    ends = (end for end in range(len(text) + 1) if tokens.starting_before(end) >= count)
    return text[: next(ends, len(text))].rstrip()


def _added_in_front(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The special tokens that a tokenizer puts before a text."""
    alone, whole = tokenizer.encode("a", add_special_tokens=False), list(tokenizer("a")["input_ids"])
    starts = (start for start in range(len(whole)) if whole[start : start + len(alone)] == alone)
    return tuple(whole[: next(starts, 0)])


def message(role: str, content: str) -> dict[str, str]:
    """What one side of a chat says, as chat templates and servers take it."""
    return {"role": role, "content": content}
