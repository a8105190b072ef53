"""The embedded default data: pairs from seeded worlds of facts, of any length, ready at once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from data_modules.pairs import PairDataModule
from data_modules.records import PreferencePair
from data_modules.truncation import OnOverlength, Truncation
from data_modules.world import Fact, Question, Split, World, num_words_of
from lit_longpo.batch import Views
from lit_longpo.policy import PromptFormat


class SyntheticDataModule(PairDataModule):
    """Preference pairs about made-up people; train, val and test know different people.

    The chosen answer is what the context states, the rejected one another value of the same
    attribute that some distractor states. Lengths are words of the context; the embedded tokenizer
    makes one token of each.

    Args:
        num_train: training examples.
        num_val: validation examples.
        num_test: test examples.
        short_words: words of the short context.
        long_words: words of the long context, drawn evenly from this range.
        hops: facts that an answer takes.
        max_tokens: budget of one packed row; the batch size in tokens.
        max_examples: at most this many examples in a row; `None` means as many as fit.
        max_length: tokens of one sequence (prompt and longest response); `None` means any length.
        on_overlength: what happens to longer sequences: "error", "truncate" the context, or "skip".
        truncation: cut in the "middle" of the context, or drop whole distractor "passages".
        prefix_sharing: responses of one prompt share it; False gives each its own copy.
        seed: of the worlds and of the order of training examples.
        num_workers: processes that pack batches.
        views: what the objective asks; the command line fills it in.
        prompt_format: tokenizer and template; the command line fills it in.
    """

    def __init__(
        self,
        num_train: int = 2000,
        num_val: int = 64,
        num_test: int = 64,
        short_words: int = 64,
        long_words: tuple[int, int] = (256, 512),
        hops: int = 1,
        max_tokens: int = 8192,
        max_examples: int | None = None,
        max_length: int | None = None,
        on_overlength: OnOverlength = "error",
        truncation: Truncation = "middle",
        prefix_sharing: bool = True,
        seed: int = 0,
        num_workers: int = 0,
        views: Views | None = None,
        prompt_format: PromptFormat | None = None,
    ) -> None:
        super().__init__(
            max_tokens=max_tokens,
            max_examples=max_examples,
            max_length=max_length,
            on_overlength=on_overlength,
            truncation=truncation,
            prefix_sharing=prefix_sharing,
            seed=seed,
            num_workers=num_workers,
            views=views,
            prompt_format=prompt_format,
        )
        self.sizes = {"train": num_train, "val": num_val, "test": num_test}
        self.short_words, self.long_words, self.hops = short_words, long_words, hops

    def pairs(self, split: str) -> list[PreferencePair]:
        """The split's pairs, made anew from the seed."""
        return [self._pair(cast(Split, split), index) for index in range(self.sizes[split])]

    def _pair(self, split: Split, index: int) -> PreferencePair:
        world = World(split, self.seed * 1_000_003 + index)
        question = world.question(self.hops)
        needed = sum(num_words_of(fact.sentence) for fact in question.supporting)
        long_words = world.random.randint(*self.long_words)
        distractors = world.distractors(max(0, long_words - needed))
        near = _prefix(distractors, self.short_words - needed)
        long_context = world.arrange(question.supporting, distractors)
        return PreferencePair(
            id=f"{split}-{index}",
            question=question.text,
            short_context=world.arrange(question.supporting, near),
            long_context=long_context,
            chosen=question.answer,
            rejected=(world.wrong_answer(question, near),),
            answers=(question.answer,),
            supporting=_spans(question, long_context),
        )


@dataclass
class WorldHaystack:
    """Needle questions about the people of one split, for `NeedleCallback`.

    Args:
        split: whose people; "test" shares nobody with training.
        seed: of the worlds.
        hops: facts that an answer takes; they lie side by side at the depth.
    """

    split: Split = "test"
    seed: int = 0
    hops: int = 1

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
        world = World(self.split, hash_free_seed(self.seed, length, depth, index))
        question = world.question(self.hops)
        used = sum(num_tokens(fact.sentence) for fact in question.supporting)
        distractors: list[Fact] = []
        while used < length:
            distractors.append(world.fact())
            used += num_tokens(distractors[-1].sentence)
        return world.arrange(question.supporting, distractors, depth), question.text, (question.answer,)


def hash_free_seed(seed: int, length: int, depth: float, index: int) -> int:
    """One integer for one cell and example; the same on every machine."""
    return ((seed * 10_007 + length) * 1_009 + round(depth * 1000)) * 100_003 + index


def _prefix(facts: list[Fact], num_words: int) -> list[Fact]:
    """As many facts from the front as fit into `num_words`."""
    kept: list[Fact] = []
    for fact in facts:
        num_words -= num_words_of(fact.sentence)
        if num_words < 0:
            break
        kept.append(fact)
    return kept


def _spans(question: Question, context: str) -> tuple[tuple[int, int], ...]:
    starts = [(context.index(fact.sentence), len(fact.sentence)) for fact in question.supporting]
    return tuple((start, start + length) for start, length in sorted(starts))
