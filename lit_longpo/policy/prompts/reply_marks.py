"""Where a reply's answer begins: behind marks that the chat template writes, and that vanish with the special tokens.

gpt-oss answers `<|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>final<|message|>Oslo`: without its
special tokens that reads `analysis...assistantfinalOslo`, and thoughts cannot be told from the answer any more
(verl#1724, vllm#38855). Which marks these are is found by rendering, nothing is assumed about families.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from lit_longpo.policy.prompts.chat import Chat
from lit_longpo.policy.prompts.thoughts import THINKS, THOUGHT
from lit_longpo.policy.prompts.tokenizing import TextEncoder

_FIELDS = ("reasoning_content", "thinking", "reasoning")  # that templates read an answer's thoughts from
Ids = tuple[int, ...]


@dataclass(frozen=True)
class ReplyMarks:
    """Tokens around the thoughts of a reply; empty ones are not looked for.

    Args:
        thinks: begin thoughts.
        speaks: stand between thoughts and the answer.
        answers: end what stands before an answer, thoughts or none.
        opened: whether the prompt ends in opened thoughts.
        closing: text that ends an answer, where that is no token; what comes behind it is none of the answer.
    """

    thinks: Ids = ()
    speaks: Ids = ()
    answers: Ids = ()
    opened: bool = False
    closing: str = ""

    def read(self, ids: Sequence[int], decode: Callable[[Sequence[int]], str]) -> str:
        """The text of a reply, its thoughts as `<think>...</think>` before the answer.

        Args:
            ids: that a model wrote.
            decode: text of tokens.
        """
        text = self._parted(ids, decode)
        return text.partition(self.closing)[0] if self.closing else text

    def _parted(self, ids: Sequence[int], decode: Callable[[Sequence[int]], str]) -> str:
        for mark in filter(None, (self.speaks, self.answers)):
            if (place := _last_place(ids, mark)) is not None:
                return self._thoughts(ids[:place], decode, THOUGHT) + decode(ids[place + len(mark) :])
        thinking = self.opened or (bool(self.thinks) and tuple(ids[: len(self.thinks)]) == self.thinks)
        return self._thoughts(ids, decode, "") if thinking else decode(ids)

    def _thoughts(self, ids: Sequence[int], decode: Callable[[Sequence[int]], str], end: str) -> str:
        begins = bool(self.thinks) and tuple(ids[: len(self.thinks)]) == self.thinks
        text = decode(ids[len(self.thinks) if begins else 0 :])
        return f"{THINKS}{text}{end}" if text.strip() else ""


def reply_marks(tokenizer: PreTrainedTokenizerBase, texts: TextEncoder, chat: Chat, closing: str) -> ReplyMarks:
    """The marks of a template's answers, where decoded text does not tell; none where it does (`</think>`).

    Args:
        tokenizer: any.
        texts: that encodes by it.
        chat: its template.
        closing: text that ends answers, if that is no token.
    """

    def core(text: str) -> Ids:
        """The tokens of a text from the first one that was added to the vocabulary to the last."""
        ids = texts.encode_after("", text.strip()).ids
        places = [place for place, number in enumerate(ids) if number in tokenizer.added_tokens_decoder]
        return ids[places[0] : places[-1] + 1] if places else ()

    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}

    def vanishes(ids: Ids) -> bool:
        return not special.isdisjoint(ids)

    around = next(filter(None, map(chat.thinking, _FIELDS)), None)
    before, behind = around or ("", "")
    thinks, speaks, answers = core(before), core(behind), core(chat.prefix or "")
    plain = str(tokenizer.decode(list(speaks))).strip() == THOUGHT and not vanishes(speaks)
    return ReplyMarks(
        thinks if speaks and not plain else (),
        () if plain else speaks,
        answers if vanishes(answers) else (),
        opened=bool(speaks) and not plain and not before.strip(),
        closing=closing,
    )


def _last_place(ids: Sequence[int], mark: Ids) -> int | None:
    """Where a mark begins for the last time."""
    places = range(len(ids) - len(mark), -1, -1)
    return next((place for place in places if tuple(ids[place : place + len(mark)]) == mark), None)
