"""Questions and documents about made-up people; no file, no model that has to know anything."""

from collections.abc import Iterator
from dataclasses import dataclass

from data_modules.builders.sources.base import Document, Source
from data_modules.builders.sources.tokens import TextTokens
from data_modules.records import Passage, QARecord
from data_modules.worlds.world import MOST_HOPS, Fact, Split, World, world_seed
from lit_longpo.ranges import MOST, check_numbers


@dataclass
class WorldQuestions(Source):
    """Questions about made-up people, which the embedded model can answer; needs no file.

    Args:
        count: questions.
        facts: passages of each question, one fact each.
        hops: facts that an answer takes.
        split: worlds of different splits are unrelated.
        seed: of the worlds.
    """

    count: int = 64
    facts: int = 128
    hops: int = 1
    split: Split = "train"
    seed: int = 0

    def __post_init__(self) -> None:
        check_numbers(self, "source.init_args.", count=(1, MOST), facts=(1, MOST), hops=(1, MOST_HOPS))

    def items(self, tokens: TextTokens) -> Iterator[QARecord]:
        """Every question, made anew."""
        for number in range(self.count):
            world = World(self.split, world_seed(self.seed, number))
            question = world.question(self.hops)
            others = [world.fact() for _ in range(max(0, self.facts - self.hops))]
            passages = [*(_passage(fact, True) for fact in question.supporting), *map(_passage, others)]
            world.random.shuffle(passages)
            yield QARecord(f"world-{number}", question.text, (question.answer,), tuple(passages))


@dataclass
class WorldDocuments(Source):
    """Documents about made-up people, two facts a paragraph.

    Args:
        count: documents.
        facts: facts of each.
        split: worlds of different splits are unrelated.
        seed: of the worlds.
    """

    count: int = 16
    facts: int = 96
    split: Split = "train"
    seed: int = 0

    def __post_init__(self) -> None:
        check_numbers(self, "source.init_args.", count=(1, MOST), facts=(1, MOST))

    def items(self, tokens: TextTokens) -> Iterator[Document]:
        """Every document, made anew."""
        for number in range(self.count):
            world = World(self.split, world_seed(self.seed, number))
            facts = [world.fact().sentence for _ in range(self.facts)]
            pairs = [" ".join(facts[start : start + 2]) for start in range(0, len(facts), 2)]
            yield Document(f"world-{number}", "\n\n".join(pairs))


def _passage(fact: Fact, supporting: bool = False) -> Passage:
    return Passage("", fact.sentence, supporting)
