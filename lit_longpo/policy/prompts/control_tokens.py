"""Control tokens (a turn's beginning, the end of the text), and the places where data writes them out as text."""

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

from transformers import PreTrainedTokenizerBase

from lit_longpo.errors import InputError
from lit_longpo.log_once import log_once
from lit_longpo.policy.prompts.chat_template import ChatTemplate
from lit_longpo.policy.prompts.rendered import Rendered, Span, Utterance
from lit_longpo.policy.prompts.thoughts import THINKS, THOUGHT

log = logging.getLogger(__name__)

_BOTH_WAYS = ({"split_special_tokens": False}, {"split_special_tokens": True})


@dataclass(frozen=True)
class Markup:
    """The control tokens, with their ids, that must stay plain text where data writes them out."""

    tokens: dict[str, int]

    @cached_property
    def ids(self) -> frozenset[int]:
        """Ids that must not come out of data."""
        return frozenset(self.tokens.values())

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Any of the texts, the longest first."""
        return re.compile("|".join(map(re.escape, sorted(self.tokens, key=len, reverse=True))) or "(?!)")


@dataclass(frozen=True)
class Data:
    """A stretch of a text, from character `start` to before `end`, that comes from data."""

    start: int
    end: int
    markup: Markup

    def touches(self, text: str, span: Span) -> bool:
        """Whether a token has a character here; white space that it swallows at its ends does not count."""
        token = text[span[0] : span[1]]
        start = span[0] + len(token) - len(token.lstrip())
        return start < self.end and start + len(token.strip()) > self.start

    def moved(self, chars: int) -> "Data":
        """The stretch after `chars` characters were put in front of the text."""
        return Data(self.start + chars, self.end + chars, self.markup)


@dataclass(frozen=True)
class DataMarks:
    """Which stretches of a text come from data, and what must stay text in them.

    Args:
        in_prompts: control tokens of contexts, questions and system messages.
        in_answers: control tokens of answers.
        read_as_control: leave what data writes out to the tokenizer, so that nothing is marked.
    """

    in_prompts: Markup
    in_answers: Markup
    read_as_control: bool

    def of_prompt(self, *spans: Span) -> list[Data]:
        """Stretches of what is asked."""
        return self._data(self.in_prompts, spans)

    def of_answer(self, *spans: Span) -> list[Data]:
        """Stretches of answers."""
        return self._data(self.in_answers, spans)

    def of_conversation(
        self, messages: Sequence[Utterance], placed: Mapping[int, Rendered], parts: Mapping[int, Sequence[Span]]
    ) -> list[Data]:
        """The stretches of a conversation that come from data: whole messages, or only their `parts` where given.

        Args:
            messages: roles and texts.
            placed: where they stand, by number; -1 is a system message.
            parts: stretches of a message that come from data, by its number.
        """
        data = list[Data]()
        for number, rendered in placed.items():
            of_role = self.of_answer if number >= 0 and messages[number][0] == "assistant" else self.of_prompt
            spans = parts.get(number)
            data += of_role(*([(rendered.start, rendered.end)] if spans is None else map(rendered.moved, spans)))
        return data

    def _data(self, markup: Markup, spans: Sequence[Span]) -> list[Data]:
        if self.read_as_control:
            return []
        return [Data(start, end, markup) for start, end in spans if end > start]


def control_tokens(tokenizer: PreTrainedTokenizerBase, chat: ChatTemplate | None) -> tuple[Markup, Markup]:
    """The control tokens that stay text in contexts and questions, and those that stay text in answers.

    These are the special tokens, and the added tokens that the chat template writes (DeepSeek's turn marks are not
    special). In answers only those added tokens that open turns stay text: `<think>`, special or not, is an answer's
    own to write, wherever the template has it (behind the mark that opens answers, or in words about how to think).
    """
    added = tokenizer.added_tokens_decoder.values()
    names = {token.content for token in added if token.special} | set(tokenizer.all_special_tokens)
    _refuse_blank(tokenizer, names)
    special, thoughts = _with_ids(tokenizer, names), {THINKS, THOUGHT}
    steering = {name: number for name, number in special.items() if name not in thoughts}
    if chat is None:
        return Markup(special), Markup(steering)
    others = {token.content for token in added} - names
    turning = others - thoughts
    opening = sorted((name for name in turning if name in chat.tail), key=chat.tail.index)[:1]
    frames = (chat.head, chat.after_earlier_answer or "")
    turns = {name for name in turning if name in opening or any(name in frame for frame in frames)}
    texts = chat.texts()
    written = {name for name in others if any(name in text for text in texts)}
    return Markup(special | _with_ids(tokenizer, written)), Markup(steering | _with_ids(tokenizer, turns))


def _refuse_blank(tokenizer: PreTrainedTokenizerBase, names: set[str]) -> None:
    """Refuse a control token of white space, which would be found in nearly every text."""
    for name in sorted(name for name in names if name and not name.strip()):
        read, written = (tokenizer.encode(f"a{name}a", add_special_tokens=False, **options) for options in _BOTH_WAYS)
        if read != written:
            raise InputError(
                f"expected special tokens that ordinary text does not contain, got {name!r} in the tokenizer of "
                f"{tokenizer.name_or_path or 'the model'}; correct its tokenizer_config.json, or copy that file again"
            )


def _with_ids(tokenizer: PreTrainedTokenizerBase, names: set[str]) -> dict[str, int]:
    """Names with their ids, without white space, which templates write as text."""
    return {name: int(cast(int, tokenizer.convert_tokens_to_ids(name))) for name in sorted(names) if name.strip()}


def written_out(text: str, data: Sequence[Data]) -> list[Span]:
    """Where control tokens are written out, in data at least in part; ascending."""
    hits = set[Span]()
    for part in data:
        longest = max(map(len, part.markup.tokens), default=1) - 1
        matches = part.markup.pattern.finditer(text, max(0, part.start - longest), part.end + longest)
        hits |= {hit.span() for hit in matches if hit.start() < part.end and hit.end() > part.start}
    return sorted(hits)


def warn_of_split_marks(markup: Markup, text: str, ids: Sequence[int], where: str) -> None:
    """Warn of marks of the chat template that the tokenizer does not read as their tokens.

    A tokenizer that normalises texts before it looks for added tokens (`normalized: true`), or takes them for words of
    their own alone (`single_word: true`), reads a mark as text wherever other text touches it (tokenizers#1408).
    """
    written = Counter(match.group() for match in markup.pattern.finditer(text))
    read = Counter(ids)
    for name in (name for name, times in written.items() if read[markup.tokens[name]] < times):
        log_once(
            log.warning,
            "%s: the tokenizer reads the chat template's %r as text, though it has a token of that name: no turn "
            "begins or ends with that token; set `normalized` and `single_word` of it to false in tokenizer.json if "
            "the model was trained with it",
            *(where or "the tokenizer", name),
        )
