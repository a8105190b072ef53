"""Finds where the answer begins in a reply whose thoughts are marked by special tokens, which decoding would drop.

gpt-oss answers `<|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>final<|message|>Oslo`: without its
special tokens that reads `analysis...assistantfinalOslo`, and thoughts cannot be told from the answer any more
(verl#1724, vllm#38855). Which marks these are is found by rendering, nothing is assumed about families.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from transformers import PreTrainedTokenizerBase

from lit_longpo.policy.prompts.chat_template import ChatTemplate
from lit_longpo.policy.prompts.thoughts import THINKS, THOUGHT
from lit_longpo.policy.prompts.tokenizing import TextEncoder

Ids = tuple[int, ...]
Fields = dict[str, Any]


def _in_field(name: str, _: str, thoughts: str) -> Fields:
    return {name: thoughts}


def _in_parts(answer: str, thoughts: str) -> Fields:
    """Mistral's."""
    return {"content": [{"type": "thinking", "thinking": thoughts}, {"type": "text", "text": answer}]}


def _in_parts_of_text(answer: str, thoughts: str) -> Fields:
    """Mistral's, as its own package takes them."""
    said = {"type": "thinking", "thinking": [{"type": "text", "text": thoughts}], "closed": True}
    return {"content": [said, {"type": "text", "text": answer}]}


def _in_blocks(answer: str, thoughts: str) -> Fields:
    """Apertus's."""
    return {"content": {"blocks": [{"type": "thoughts", "text": thoughts}, {"type": "response", "text": answer}]}}


# How templates may read an answer with its thoughts.
_WRITTEN: tuple[Callable[[str, str], Fields], ...] = (
    *(partial(_in_field, name) for name in ("reasoning_content", "thinking", "reasoning")),
    *(_in_parts, _in_parts_of_text, _in_blocks),
)


@dataclass(frozen=True)
class ReplyMarks:
    """Tokens around the thoughts of a reply; empty ones are not looked for.

    Args:
        thinks: begin thoughts.
        speaks: stand between thoughts and the answer.
        answers: end what stands before an answer, thoughts or none.
        opened: whether the prompt ends in opened thoughts.
        closing: text that ends an answer, where that is no token; what comes behind it is none of the answer.
        kept: special tokens that stay in the text, and what they read.
    """

    thinks: Ids = ()
    speaks: Ids = ()
    answers: Ids = ()
    opened: bool = False
    closing: str = ""
    kept: Mapping[int, str] = field(default_factory=dict)

    def read(self, ids: Sequence[int], decode: Callable[[Sequence[int]], str], *, opened: bool = True) -> str:
        """The text of a reply, its thoughts as `<think>...</think>` before the answer.

        Args:
            ids: that a model wrote.
            decode: text of tokens.
            opened: whether the reply goes on in thoughts, if the chat template opens some.
        """
        marks = self if opened else replace(self, opened=False)
        text = marks._with_thoughts(ids, partial(self._keeping, decode=decode))
        return text.partition(self.closing)[0] if self.closing else text

    def _with_thoughts(self, ids: Sequence[int], decode: Callable[[Sequence[int]], str]) -> str:
        for mark in filter(None, (self.speaks, self.answers)):
            if (place := _last_place(ids, mark)) is not None:
                return self._thoughts(ids[:place], decode, THOUGHT) + decode(ids[place + len(mark) :])
        return self._thoughts(ids, decode, "") if self.opened or self._begin(ids) else decode(ids)

    def _begin(self, ids: Sequence[int]) -> bool:
        """Whether a reply begins with the mark of thoughts."""
        return bool(self.thinks) and tuple(ids[: len(self.thinks)]) == self.thinks

    def _keeping(self, ids: Sequence[int], decode: Callable[[Sequence[int]], str]) -> str:
        places = [place for place, number in enumerate(ids) if number in self.kept]
        texts, begin = list[str](), 0
        for place in places:
            texts += [decode(ids[begin:place]), self.kept[ids[place]]]
            begin = place + 1
        return "".join([*texts, decode(ids[begin:])]) if places else decode(ids)

    def _thoughts(self, ids: Sequence[int], decode: Callable[[Sequence[int]], str], end: str) -> str:
        text = decode(ids[len(self.thinks) if self._begin(ids) else 0 :])
        return f"{THINKS}{text}{end}" if text.strip() else ""


def reply_marks(
    tokenizer: PreTrainedTokenizerBase, texts: TextEncoder, chat: ChatTemplate | None, closing: str
) -> ReplyMarks:
    """The marks of answers; empty if the decoded text shows them itself (a `</think>` that is no special token)."""
    special = {number: token.content for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    kept = {number: name for number, name in special.items() if name in (THINKS, THOUGHT)}
    named = ReplyMarks(closing=closing, kept=kept)
    return named if chat is None else _rendered(tokenizer, texts, chat, named, special.keys())


def _rendered(
    tokenizer: PreTrainedTokenizerBase, texts: TextEncoder, chat: ChatTemplate, named: ReplyMarks, special: Set[int]
) -> ReplyMarks:
    """The marks as the template writes them, found by rendering an answer with thoughts."""

    def core(text: str) -> Ids:
        """The tokens of a text from the first one that was added to the vocabulary to the last."""
        ids = texts.encode_after("", text.strip()).ids
        places = [place for place, number in enumerate(ids) if number in tokenizer.added_tokens_decoder]
        return ids[places[0] : places[-1] + 1] if places else ()

    answers = core(chat.prefix or "")
    marks = replace(named, answers=() if not special & set(answers) else answers)
    before, behind = next(filter(None, map(chat.thinking, _WRITTEN)), ("", ""))
    speaks = core(behind)
    if not speaks or str(tokenizer.decode(list(speaks))).strip() == THOUGHT:
        return marks
    return replace(marks, thinks=core(before), speaks=speaks, opened=not before.strip())


def _last_place(ids: Sequence[int], mark: Ids) -> int | None:
    """Where a mark begins for the last time."""
    places = range(len(ids) - len(mark), -1, -1)
    return next((place for place in places if tuple(ids[place : place + len(mark)]) == mark), None)
