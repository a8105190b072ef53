"""RULER's variable tracking, vt."""

import random
import string
from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.benchmarks.haystack import CountTokens
from evaluation.benchmarks.official_files import Row
from evaluation.benchmarks.ruler.generator import MOST_HIDDEN, SMALL, Generator, RulerQuestion, different
from evaluation.benchmarks.ruler.templates import OfficialTasks
from lit_longpo.errors import InputError

_SHOT_TOKENS = 500


@dataclass(frozen=True)
class Chains:
    """Variables of a chain and their value, and those of the solved example."""

    variables: tuple[str, ...]
    value: str
    shot_variables: tuple[str, ...]
    shot_value: str


class TrackingGenerator(Generator[Chains]):
    """vt: one variable gets a number, others get it from one another; a solved example of 500 tokens comes first."""

    def __init__(self, tasks: OfficialTasks, arguments: Row, seed: int) -> None:
        super().__init__(tasks.templates["variable_tracking"], seed)
        arguments.count("num_chains", 1, 1)  # as in the official task
        self._num_variables = arguments.count("num_hops", 1, MOST_HIDDEN) + 1
        self.smallest = self._num_variables
        self._noise = tasks.sentences["noise"]
        self._shot_size = 0

    def hidden(self, draw: random.Random, length: int, row: int) -> Chains:
        """Names of five letters, of the solved example three; numbers of five digits."""
        return Chains(*self._chain(draw, 5), *self._chain(draw, 3))

    def asked(self, hidden: Chains, draw: random.Random) -> RulerQuestion:
        """All variables of the value."""
        return self._question(hidden.variables, hidden.value)

    def context(self, hidden: Chains, draw: random.Random, size: int) -> str:
        """With `size` lines of noise."""
        return self._lines(hidden.variables, hidden.value, draw, size)

    def step(self, length: int) -> int:
        """10 lines; 5 below 4096 tokens."""
        return 10 if length >= SMALL else 5

    def prepare(self, num_tokens: CountTokens) -> None:
        """Find how many lines the solved example has, the same for all prompts.

        Raises:
            InputError: this tokenizer takes too many tokens for the shortest one.
        """
        sample = self.hidden(random.Random(self.seed), 0, 0)
        sizes = range(5, _SHOT_TOKENS)
        self._shot_size = next((size - 1 for size in sizes if num_tokens(self._shot(sample, size)) > _SHOT_TOKENS), 0)
        if self._shot_size < sizes[0]:
            raise InputError(
                f"expected a solved example (vt) of at most {_SHOT_TOKENS} tokens, got more at its smallest; leave vt "
                "out of `tasks`: this tokenizer takes too many"
            )

    def message(self, hidden: Chains, asked: RulerQuestion, context: str) -> str:
        """The solved example and the question."""
        return f"{self._shot(hidden, self._shot_size)}\n\n{super().message(hidden, asked, context)}"

    def _shot(self, hidden: Chains, size: int) -> str:
        """Its lines keep their places."""
        asked = self._question(hidden.shot_variables, hidden.shot_value)
        context = self._lines(hidden.shot_variables, hidden.shot_value, random.Random(self.seed), size)
        answer = " ".join(hidden.shot_variables)
        return f"{self._filled(self.template.text, asked, context)}{self.answer_prefix(asked)} {answer}"

    def _lines(self, variables: Sequence[str], value: str, draw: random.Random, size: int) -> str:
        lines = [self._noise] * size
        places = sorted(draw.sample(range(size), len(variables)))
        sources = (value, *(f"VAR {name} " for name in variables))
        for number, (place, name) in enumerate(zip(places, variables, strict=True)):
            lines.insert(place + number, f"VAR {name} = {sources[number]}")
        return "\n".join(lines)

    def _question(self, variables: tuple[str, ...], value: str) -> RulerQuestion:
        return RulerQuestion({"query": value, "num_v": str(len(variables))}, variables)

    def _chain(self, draw: random.Random, letters: int) -> tuple[tuple[str, ...], str]:
        names = different(draw, string.ascii_uppercase, letters, self._num_variables)
        return tuple(names), str(draw.randrange(10_000, 99_999))
