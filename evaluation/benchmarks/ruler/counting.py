"""RULER's two tasks of counting words, cwe and fwe."""

import math
import random
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evaluation.benchmarks.official_files import Row
from evaluation.benchmarks.ruler.generator import MOST_HIDDEN, SMALL, Generator, RulerQuestion, different
from evaluation.benchmarks.ruler.templates import OfficialTasks
from evaluation.benchmarks.ruler.words import Words
from lit_longpo.errors import InputError

_SHOTS = {True: 20, False: 40}  # words of the solved example: below SMALL, and from there on


@dataclass(frozen=True)
class CommonWords:
    """Words that come often, and those of the solved example with the others there."""

    common: tuple[str, ...]
    shot_common: tuple[str, ...]
    shot_others: tuple[str, ...]
    is_easy: bool


class CommonWordsGenerator(Generator[CommonWords]):
    """cwe: a numbered list in which ten words come more often than all others; a solved example comes first."""

    slack = 2
    units = "enough English words (cwe; json/english_words.json of the official scripts as `english_words`)"

    def __init__(self, tasks: OfficialTasks, arguments: Row, seed: int, words: Words) -> None:
        super().__init__(tasks.templates["common_words_extraction"], seed)
        self._num_common = arguments.count("num_cw", 1, _SHOTS[True] - 1)
        often = [arguments.count(name, 1, MOST_HIDDEN) for name in ("freq_cw", "freq_ucw")]
        self._times = (often[0], often[1])
        self._words = words

    def hidden(self, draw: random.Random, length: int, row: int) -> CommonWords:
        """Ten words; below 4096 tokens everything is easier."""
        is_easy = length < SMALL
        shot = draw.sample(self._words.every, _SHOTS[is_easy])
        common = draw.sample(self._words.every, self._num_common)
        return CommonWords(tuple(common), tuple(shot[: self._num_common]), tuple(shot[self._num_common :]), is_easy)

    def asked(self, hidden: CommonWords, draw: random.Random) -> RulerQuestion:
        """The ten words."""
        return RulerQuestion({"query": ""}, hidden.common)

    def context(self, hidden: CommonWords, draw: random.Random, size: int) -> str:
        """Of `size` different words."""
        pool = self._words.every if size <= len(self._words.every) else self._words.english
        known = set(hidden.common)
        others = [word for word in draw.sample(pool, size) if word not in known]
        return self._list(hidden.common, others[: size - self._num_common], (6, 1) if hidden.is_easy else self._times)

    def step(self, length: int) -> int:
        """10 words."""
        return 10

    def probe(self, length: int) -> int:
        """4,096 words."""
        return 4096

    def message(self, hidden: CommonWords, asked: RulerQuestion, context: str) -> str:
        """The solved example and the question."""
        shot = self._list(hidden.shot_common, hidden.shot_others, (3, 1) if hidden.is_easy else (10, 3))
        solved = super().message(hidden, asked, shot) + self.answer_prefix(asked)
        return f"{solved} {numbered_list(hidden.shot_common)}\n{super().message(hidden, asked, context)}"

    @property
    def most(self) -> int:
        """At most as many words as there are; a list that would hold them all may well have room for more."""
        return self._words.num_known

    def _list(self, common: Sequence[str], others: Sequence[str], times: tuple[int, int]) -> str:
        words = [*common] * times[0] + [*others] * times[1]
        self._shuffle(words)
        return numbered_list(words)


class FrequentWordsGenerator(Generator[list[str]]):
    """fwe: words of six letters by a zeta distribution; the most frequent one is dots, the next three are asked."""

    def __init__(self, tasks: OfficialTasks, arguments: Row, seed: int) -> None:
        super().__init__(tasks.templates["freq_words_extraction"], seed)
        if arguments.values.get("alpha") != 2.0:  # the sum over all ranks is known for it
            raise arguments.error("alpha", "2.0, as in the official task", arguments.values.get("alpha"))

    def hidden(self, draw: random.Random, length: int, row: int) -> list[str]:
        """A word for every 50 tokens, by rank.

        Raises:
            InputError: the length is below 250 tokens.
        """
        count = self.room(length) // 50
        if count < 4:
            raise InputError(
                f"expected a length of at least 250 tokens for fwe, got {length}; drop that length from `lengths`"
            )
        words = sorted(different(draw, string.ascii_lowercase, 6, count))
        self._shuffle(words)
        return ["...", *words[1:]]

    def asked(self, hidden: list[str], draw: random.Random) -> RulerQuestion:
        """The second to fourth rank."""
        return RulerQuestion({"query": ""}, tuple(hidden[1:4]))

    def context(self, hidden: list[str], draw: random.Random, size: int) -> str:
        """Of `size` words at most: how often each rank comes is rounded down."""
        total = math.pi**2 / 6
        counts = [int(size * rank**-2.0 / total) for rank in range(1, len(hidden) + 1)]
        words = [word for word, times in zip(hidden, counts, strict=True) for _ in range(times)]
        self._shuffle(words)
        return " ".join(words)

    def step(self, length: int) -> int:
        """A 32nd of the tokens."""
        return max(1, self.room(length) // 32)

    def size(self, num_tokens: Callable[[int], int], length: int) -> int:
        """In steps from a sixth of the tokens, as long as it fits."""
        size, step = self.room(length) // 6, self.step(length)
        while num_tokens(size) < self.room(length):
            size += step
        return size - step


def numbered_list(words: Sequence[str]) -> str:
    """The words as a numbered list in one line."""
    return " ".join(f"{place}. {word}" for place, word in enumerate(words, 1))
