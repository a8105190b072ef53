"""The interface of RULER's kinds of tasks (NVIDIA/RULER c3f5e3b).

What is hidden and asked is drawn from one stream of random numbers, the hay around it from another, so that answers
are known before there is a tokenizer. Lists are put into order by a state of their own that begins anew each time, as
in the official scripts: the same number of things always comes in the same order.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, MutableSequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from evaluation.benchmarks.haystack import CountTokens
from evaluation.benchmarks.needle_tasks import distinct
from evaluation.benchmarks.ruler.templates import TaskTemplate
from lit_longpo.errors import InputError

Hidden = TypeVar("Hidden")
MOST_HIDDEN = 10_000  # things of a kind that are hidden in one context
SMALL = 4096  # below it tasks are easier and grow by smaller steps


@dataclass(frozen=True)
class RulerQuestion:
    """The question of an example.

    Args:
        fields: what template and answer prefix are filled with, beside the context.
        answers: strings that should be in the response.
        is_one: the answer is a single value, and the template is put into the singular.
    """

    fields: Mapping[str, str]
    answers: tuple[str, ...]
    is_one: bool = False


class Generator(ABC, Generic[Hidden]):
    """One kind of task."""

    slack = 3  # how many times the size that the first probe suggests is tried
    smallest = 1  # size that what is hidden needs at least
    units = "more"
    num_rows: int | None = None  # examples that there are at most
    asks_again = False  # a row is the same question at every length

    def __init__(self, template: TaskTemplate, seed: int) -> None:
        self.template, self.seed = template, seed

    @abstractmethod
    def hidden(self, draw: random.Random, length: int, row: int) -> Hidden:
        """Draw what is hidden.

        Args:
            draw: random numbers.
            length: tokens of prompt and answer.
            row: number of the example.
        """

    @abstractmethod
    def asked(self, hidden: Hidden, draw: random.Random) -> RulerQuestion:
        """The question about it."""

    @abstractmethod
    def context(self, hidden: Hidden, draw: random.Random, size: int) -> str:
        """Hay with what is hidden; `size` is in units of the kind (lines, words, documents)."""

    @abstractmethod
    def step(self, length: int) -> int:
        """Units by which a context that is too long is made smaller; the smallest size as well."""

    def probe(self, length: int) -> int:
        """Size of the first try."""
        return self.step(length)

    def prepare(self, num_tokens: CountTokens) -> None:
        """Make what depends on the tokenizer and on no example."""

    def message(self, hidden: Hidden, asked: RulerQuestion, context: str) -> str:
        """What the user says."""
        return self._filled(self.template.text, asked, context)

    def question(self, asked: RulerQuestion) -> str:
        """What is asked, without the context."""
        return self._filled(self.template.text, asked, "...")

    def answer_prefix(self, asked: RulerQuestion) -> str:
        """First words of the answer."""
        return self._filled(self.template.answer_prefix, asked)

    def room(self, length: int) -> int:
        """Tokens of a prompt at most."""
        return length - self.template.max_new_tokens

    def size(self, num_tokens: Callable[[int], int], length: int) -> int:
        """The largest size whose prompt fits, by the official search.

        Args:
            num_tokens: of a prompt with a context of some size, drawn for the search.
            length: tokens of prompt and answer.

        Raises:
            InputError: the length takes more than there is.
        """
        low, first, most = self.step(length), self.probe(length), self.most
        high = max(int(length / (num_tokens(first) / first) * self.slack), 2 * low)
        high = high if most is None else min(high, most)
        while (best := self._bisected(num_tokens, low, high, self.room(length))) == high:
            if high == most:
                raise InputError(f"expected {self.units} for {length} tokens, got no more than {most:,}")
            low, high = high, 2 * high if most is None else min(2 * high, most)
        return best

    @property
    def most(self) -> int | None:
        """Size that cannot be exceeded, if there is one."""
        return None

    def _bisected(self, num_tokens: Callable[[int], int], low: int, high: int, room: int) -> int:
        best = low
        while low <= high:
            middle = (low + high) // 2
            if num_tokens(middle) <= room:
                best, low = middle, middle + 1
            else:
                high = middle - 1
        return best

    def _shuffle(self, items: MutableSequence[str]) -> None:
        random.Random(self.seed).shuffle(items)

    def _filled(self, text: str, asked: RulerQuestion, context: str = "") -> str:
        if asked.is_one:  # as the official script does it
            for plural, singular in (("Some", "A"), ("are all", "is"), ("are", "is"), ("answers", "answer")):
                text = text.replace(plural, singular)
        return text.format(context=context, **asked.fields)


def different(draw: random.Random, letters: str, length: int, count: int) -> list[str]:
    """Names that all differ, in the order in which they are drawn."""
    return distinct(count, lambda: "".join(draw.choices(letters, k=length)))
