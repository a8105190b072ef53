"""The embedded default data: pairs from seeded worlds of facts, of any length, ready at once."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, cast

from data_modules import records
from data_modules.base import PairDataModule
from data_modules.files.content import Content, content_of_code
from data_modules.records import PreferencePair, Span, Turn
from data_modules.splitting import documents_of
from data_modules.worlds import world as worlds
from data_modules.worlds.world import (
    MOST_HOPS,
    NAMES,
    Fact,
    FactQuestion,
    Split,
    World,
    check_sizes,
    num_words_of,
    world_seed,
)
from lit_longpo.errors import InputError
from lit_longpo.ranges import MOST, check_numbers

_BYTES_PER_WORD = 6  # about, with the space behind it


class MadeUpPair(PreferencePair):
    """A pair about a world of its own: two that state the same short fact are not about one document."""


@documents_of.register
def _(item: MadeUpPair) -> tuple[str, str]:
    whole = item.long_context or item.short_context
    return whole, whole


class SyntheticDataModule(PairDataModule):
    """Preference pairs about made-up people; train, val and test are different worlds.

    The chosen answer is what the context states. The rejected one is another value of the same attribute, if possible
    one that a distractor states. Lengths are words of the context; the embedded tokenizer makes one token of each.

    Args:
        num_train: training examples.
        num_val: validation examples.
        num_test: test examples.
        short_words: words of the short context.
        long_words: words of the long context, drawn uniformly from this range.
        hops: facts that an answer needs.
        num_turns: questions about one long context; more than one makes multi-turn pairs (LongPO).
        num_rejected: rejected answers of each question (LOGO).
        **rows: see `PairDataModule`: budgets, lengths, positions, seed.
    """

    def __init__(
        self,
        num_train: int = 2000,
        num_val: int = 64,
        num_test: int = 64,
        short_words: int = 64,
        long_words: tuple[int, int] = (256, 512),
        hops: int = 1,
        num_turns: int = 1,
        num_rejected: int = 1,
        **rows: Any,
    ) -> None:
        super().__init__(**rows)
        self.sizes = check_sizes({"train": num_train, "val": num_val, "test": num_test})
        self.short_words, self.long_words, self.hops = short_words, long_words, hops
        self.num_turns, self.num_rejected = num_turns, num_rejected
        check_numbers(self, "data.init_args.", short_words=(1, MOST), long_words=(1, MOST), hops=(1, MOST_HOPS))
        check_numbers(self, "data.init_args.", num_turns=(1, len(NAMES) // hops), num_rejected=(1, 1000))
        if long_words[0] > long_words[1]:
            raise InputError(f"expected `data.init_args.long_words` to ascend, got {list(long_words)}; swap them")

    def pairs(self, split: str) -> list[PreferencePair]:
        """The split's pairs, made anew from the seed."""
        name = cast(Split, split)
        return [self._pair(name, index) for index in range(self.sizes[name])]

    def content(self, split: str) -> Content | None:
        """This code and its settings; `None` for a class derived from it, which may make other pairs."""
        if type(self) is not SyntheticDataModule:
            return None
        size = self.sizes[cast(Split, split)]
        lengths = (self.short_words, *self.long_words)
        settings = (split, size, self.seed, lengths, self.hops, self.num_turns, self.num_rejected)
        num_words = size * (self.short_words + self.long_words[1])
        modules = (sys.modules[__name__], worlds, records)
        return content_of_code(modules, settings, num_words * _BYTES_PER_WORD)

    def _pair(self, split: Split, index: int) -> PreferencePair:
        world = World(split, world_seed(self.seed, index))
        questions = [world.question(self.hops) for _ in range(self.num_turns)]
        supporting = [fact for question in questions for fact in question.supporting]
        num_words = sum(num_words_of(fact.sentence) for fact in supporting)
        distractors = world.distractors(max(0, world.random.randint(*self.long_words) - num_words))
        long_context = world.arrange(supporting, distractors)
        turns = [self._turn(world, question, distractors) for question in questions]
        spans = _spans(supporting, long_context)
        return MadeUpPair.from_turns(f"{split}-{index}", long_context, turns, (turns[0].chosen,), spans)

    def _turn(self, world: World, question: FactQuestion, distractors: list[Fact]) -> Turn:
        num_words = sum(num_words_of(fact.sentence) for fact in question.supporting)
        near = _prefix(distractors, self.short_words - num_words)
        return Turn(
            question=question.text,
            short_context=world.arrange(question.supporting, near),
            chosen=question.answer,
            rejected=world.wrong_answers(question, near, self.num_rejected),
        )


@dataclass
class WorldHaystack:
    """Needle questions about the people of one split, for `NeedleCallback`.

    Args:
        split: whose people; "test" shares no world with training.
        seed: of the worlds.
        hops: facts that an answer needs; they are placed side by side at the depth.
    """

    split: Split = "test"
    seed: int = 0
    hops: int = 1

    def __post_init__(self) -> None:
        check_numbers(self, "haystack.", hops=(1, MOST_HOPS))

    def needle(
        self, length: int, depth: float, index: int, num_tokens: Callable[[str], int]
    ) -> tuple[str, str, tuple[str, ...]]:
        """Context of about `length` tokens with the facts at `depth`, question and accepted answers.

        Args:
            length: tokens of the context, kept within one sentence.
            depth: 0 is the start of the context, 1 its end.
            index: number of the example.
            num_tokens: counts a text's tokens.
        """
        world = World(self.split, needle_seed(self.seed, length, depth, index))
        question = world.question(self.hops)
        total = sum(num_tokens(fact.sentence) for fact in question.supporting)
        distractors: list[Fact] = []
        while total < length:
            distractors.append(world.fact())
            total += num_tokens(distractors[-1].sentence)
        return world.arrange(question.supporting, distractors, depth), question.text, (question.answer,)


def needle_seed(seed: int, length: int, depth: float, index: int) -> int:
    """One integer for one cell and example; the same on every machine."""
    return ((seed * 10_007 + length) * 1_009 + round(depth * 1000)) * 100_003 + index


def _prefix(facts: list[Fact], num_words: int) -> list[Fact]:
    """As many facts from the front as fit into `num_words`."""
    totals = accumulate(num_words_of(fact.sentence) for fact in facts)
    return [fact for fact, total in zip(facts, totals, strict=True) if total <= num_words]


def _spans(facts: list[Fact], context: str) -> tuple[Span, ...]:
    starts = [(context.index(fact.sentence), len(fact.sentence)) for fact in facts]
    return tuple((start, start + length) for start, length in sorted(starts))
