"""RULER's eight tasks with needles, called niah there."""

import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.benchmarks.official_files import Row
from evaluation.benchmarks.ruler.essays import Essays
from evaluation.benchmarks.ruler.generator import MOST_HIDDEN, SMALL, Generator, RulerQuestion
from evaluation.benchmarks.ruler.templates import OfficialTasks
from evaluation.benchmarks.ruler.words import Words
from lit_longpo.errors import InputError

_DEPTHS = tuple(round(100 * number / 39) for number in range(40))


@dataclass(frozen=True)
class Needles:
    """Keys and the values of each."""

    keys: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]


class NeedleGenerator(Generator[Needles]):
    """niah: sentences that give keys their values, in noise, in an essay or among others of their kind."""

    def __init__(self, tasks: OfficialTasks, arguments: Row, seed: int, words: Words, essays: Essays | None) -> None:
        super().__init__(tasks.templates["niah"], seed)
        self.hay = arguments.choice("type_haystack", ("noise", "essay", "needle"))
        self._kinds = [
            arguments.choice(name, ("words", "numbers", "uuids")) for name in ("type_needle_k", "type_needle_v")
        ]
        keys, self._num_values, self._num_asked = (
            arguments.count(f"num_needle_{name}", 1, MOST_HIDDEN) for name in "kvq"
        )
        self._num_keys = max(keys, self._num_asked)
        self.smallest = self._num_keys * self._num_values
        self._words, self._essays = words, essays
        self._needle, self._noise = tasks.sentences["needle"], tasks.sentences["noise"]

    def hidden(self, draw: random.Random, length: int, row: int) -> Needles:
        """Keys with their values; one may come twice, as in the official script."""
        keys, values = [], []
        for _ in range(self._num_keys):
            keys.append(self._drawn(draw, self._kinds[0]))
            values.append(tuple(self._drawn(draw, self._kinds[1]) for _ in range(self._num_values)))
        return Needles(tuple(keys), tuple(values))

    def asked(self, hidden: Needles, draw: random.Random) -> RulerQuestion:
        """Some of the keys, or all, in an order of their own."""
        chosen = draw.sample(range(self._num_keys), self._num_asked)
        keys = [hidden.keys[number] for number in chosen]
        answers = tuple(value for number in chosen for value in hidden.values[number])
        query = f"{', '.join(keys[:-1])}, and {keys[-1]}" if len(keys) > 1 else keys[0]
        is_one = self._num_asked * self._num_values == 1
        kind = self._kinds[1].removesuffix("s") if is_one else self._kinds[1]
        return RulerQuestion({"type_needle_v": kind, "query": query}, answers, is_one)

    def context(self, hidden: Needles, draw: random.Random, size: int) -> str:
        """With `size` lines, or as many words of the essay."""
        owners = zip(hidden.keys, hidden.values, strict=True)
        needles = [self._sentence(key, value) for key, values in owners for value in values]
        self._shuffle(needles)
        if self.hay == "essay":
            return self._in_essay(needles, draw, size)
        lines = [self._noise] * size if self.hay == "noise" else [self._other(draw) for _ in range(size)]
        places = sorted(draw.sample(range(size), len(needles)), reverse=True)
        for place, needle in zip(places, needles, strict=True):
            lines.insert(place, needle)
        return "\n".join(lines)

    def step(self, length: int) -> int:
        """500 words or 25 lines; 5 lines below 4096 tokens."""
        if self.hay == "essay":
            return 500
        return 25 if length >= SMALL else 5

    def _in_essay(self, needles: Sequence[str], draw: random.Random, size: int) -> str:
        if self._essays is None:
            raise InputError("expected a text for tasks with essays, got none; name one as `essays`")
        sentences = self._essays.sentences(size)
        places = sorted(int(len(sentences) * (depth / 100)) for depth in draw.sample(_DEPTHS, len(needles)))
        parts = []
        for start, end, needle in zip((0, *places), places, needles, strict=False):
            parts += [" ".join(sentences[start:end]), needle]
        return " ".join((*parts, " ".join(sentences[places[-1] :])))

    def _other(self, draw: random.Random) -> str:
        key = self._drawn(draw, self._kinds[0])
        return self._sentence(key, self._drawn(draw, self._kinds[1]))

    def _sentence(self, key: str, value: str) -> str:
        return self._needle.format(type_needle_v=self._kinds[1], key=key, value=value)

    def _drawn(self, draw: random.Random, kind: str) -> str:
        if kind == "words":
            return draw.choice(self._words.pairs)
        if kind == "numbers":
            return str(draw.randint(10**6, 10**7 - 1))
        return str(uuid.UUID(int=draw.getrandbits(128), version=4))
