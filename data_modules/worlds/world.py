"""Seeded worlds of readable facts: what to bring to whom. Any length, any number of hops.

    Pour Ada tea . Show Ben Oslo . Ada is the mentor of Ben .
    Complete: Pour Ada                    (one hop)    tea
    Complete: Pour the mentor of Ben      (two hops)   tea

Questions are statements to complete, which suits a model that never saw a question. Every example
has a world of its own, so that a value can only be read from the context, never remembered; train,
validation and test worlds come from different seeds.

What makes long contexts hard here is what makes them hard in text: more statements that look like
the right one. Up to 24 facts nobody appears twice and the name alone finds the answer. In longer
contexts everybody comes back with other facts, and only name and verb together find it. A model
trained on short contexts has never met that. When all has been said, facts are repeated.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lit_longpo.errors import InputError
from lit_longpo.ranges import MOST, check_range

Split = Literal["train", "val", "test"]


def check_sizes(sizes: dict[Split, int]) -> dict[Split, int]:
    """The numbers of examples as given, if a world can make so many.

    Args:
        sizes: by split, as `data.init_args.num_<split>` sets them.

    Raises:
        InputError: one is below 0, or made-up examples would come for days.
    """
    for split, size in sizes.items():
        check_range(f"data.init_args.num_{split}", size, "some thousands are usual", at_least=0, at_most=MOST)
    return sizes


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES = _words(
    "Ada Amos Ben Boris Cora Dan Ella Emil Felix Gina Hugo Ida Ivo June Kai Lea Max Nina Olga Otto Pia Rosa Tess Zoe"
)

# attribute -> the verb that states it
VERBS = {
    "city": "Show",
    "pet": "Buy",
    "food": "Cook",
    "instrument": "Lend",
    "sport": "Teach",
    "drink": "Pour",
    "clothing": "Knit",
    "flower": "Pick",
    "tool": "Fetch",
    "furniture": "Build",
    "vehicle": "Hire",
    "tale": "Read",
}
# attribute -> every value it can take
VALUES = {
    "city": _words("Oslo Rome Cairo Lima Delhi Tokyo Paris Quito"),
    "pet": _words("cats dogs parrots rabbits turtles hamsters goats ferrets"),
    "food": _words("soup bread rice pasta curry salad beans cheese"),
    "instrument": _words("cellos flutes harps pianos drums violins banjos tubas"),
    "sport": _words("judo tennis golf rowing chess boxing cricket hockey"),
    "drink": _words("tea coffee milk juice cider water cocoa lemonade"),
    "clothing": _words("scarves socks gloves hats shawls jumpers mittens vests"),
    "flower": _words("roses tulips lilies daisies poppies irises asters violets"),
    "tool": _words("hammers saws pliers chisels drills rakes spades axes"),
    "furniture": _words("desks chairs shelves beds benches stools tables cupboards"),
    "vehicle": _words("trams boats taxis coaches bicycles vans sledges ferries"),
    "tale": _words("fables poems novels letters riddles legends sagas ballads"),
}
# Verb, person, value and full stop.
WORDS_PER_FACT = 4
RELATIONS = ("mentor", "friend", "cousin", "tenant")
MOST_HOPS = len(RELATIONS) + 1  # each over another relation, then the attribute


@dataclass(frozen=True)
class Fact:
    """A statement about one person: an attribute's value, or a relation to another person."""

    person: str
    name: str
    value: str

    @property
    def sentence(self) -> str:
        """The fact in words."""
        if self.name in VERBS:
            return f"{VERBS[self.name]} {self.person} {self.value} ."
        return f"{self.value} is the {self.name} of {self.person} ."


@dataclass(frozen=True)
class FactQuestion:
    """A question, its answer and the facts that settle it, in the order they are needed."""

    text: str
    answer: str
    attribute: str
    supporting: tuple[Fact, ...]


def world_seed(seed: int, number: int) -> int:
    """The seed of one of many worlds; those of two seeds are others, up to a million of them."""
    return seed * 1_000_003 + number


class World:
    """One example's world: draws facts that never contradict each other.

    Args:
        split: worlds of different splits are unrelated.
        seed: same split and seed, same world.
        num_attributes: how many kinds of facts there are; fewer make values harder to tell apart.
    """

    def __init__(self, split: Split, seed: int, num_attributes: int = len(VERBS)) -> None:
        self.random = random.Random(f"{split}-{seed}")
        self.attributes = self.random.sample(list(VERBS), num_attributes)
        self._fresh = self.random.sample(NAMES, len(NAMES))
        self._unstated = {(who, what) for who in NAMES for what in self.attributes}
        self._distractors: list[Fact] = []

    def fact(self) -> Fact:
        """A new fact, about somebody not mentioned yet if there is anybody left; an old one when all are stated."""
        if self._unstated:
            self._distractors.append(self._new_fact())
            return self._distractors[-1]
        return self.random.choice(self._distractors)

    def _new_fact(self, person: str | None = None) -> Fact:
        who = person or (self._fresh.pop() if self._fresh else self.random.choice(NAMES))
        what = self.random.choice(self.attributes)
        while (who, what) not in self._unstated:
            who, what = self.random.choice(NAMES), self.random.choice(self.attributes)
        self._unstated.discard((who, what))
        return Fact(who, what, self.random.choice(VALUES[what]))

    def question(self, hops: int = 1) -> FactQuestion:
        """A question that takes `hops` facts to answer: hops - 1 relations, then an attribute.

        Raises:
            InputError: there are not enough people left.
        """
        if len(self._fresh) < hops:
            raise InputError(f"expected at least {hops} people not mentioned yet, got {len(self._fresh)}; ask for less")
        chain = [self._fresh.pop() for _ in range(hops)]
        names = self.random.sample(RELATIONS, hops - 1)
        links = [Fact(a, name, b) for a, name, b in zip(chain, names, chain[1:], strict=False)]
        last = self._new_fact(person=chain[-1])
        path = "".join(f"the {link.name} of " for link in reversed(links))
        text = f"{VERBS[last.name]} {path}{chain[0]}"
        return FactQuestion(text, last.value, last.name, (*links, last))

    def distractors(self, num_words: int) -> list[Fact]:
        """Facts of together at least `num_words` words, at most one sentence more."""
        facts, total = [], 0
        while total < num_words:
            facts.append(self.fact())
            total += num_words_of(facts[-1].sentence)
        return facts

    def wrong_answers(self, question: FactQuestion, distractors: Sequence[Fact], count: int) -> tuple[str, ...]:
        """Other values of the asked attribute, those that the distractors state first.

        Raises:
            InputError: the attribute has not that many values.
        """
        others = [value for value in VALUES[question.attribute] if value != question.answer]
        if count > len(others):
            raise InputError(f"expected at most {len(others)} wrong answers, got {count}; ask for less")
        near = {fact.value for fact in distractors if fact.name == question.attribute}
        self.random.shuffle(others)
        return tuple(sorted(others, key=lambda value: value not in near)[:count])

    def arrange(self, supporting: Sequence[Fact], distractors: Sequence[Fact], depth: float | None = None) -> str:
        """All facts in one text: distractors shuffled, the supporting ones at `depth` or anywhere.

        Args:
            supporting: facts that must be there.
            distractors: facts around them.
            depth: 0 puts the supporting facts first, 1 last; `None` scatters them.
        """
        sentences = [fact.sentence for fact in distractors]
        self.random.shuffle(sentences)
        if depth is None:
            for fact in supporting:
                sentences.insert(self.random.randint(0, len(sentences)), fact.sentence)
        else:
            where = round(depth * len(sentences))
            sentences[where:where] = [fact.sentence for fact in supporting]
        return " ".join(sentences)


def num_words_of(text: str) -> int:
    """Words of a text; the embedded tokenizer makes one token of each."""
    return len(text.split())


def vocabulary() -> list[str]:
    """Every word a world can use, sorted."""
    listed = (word for words in VALUES.values() for word in words)
    return sorted({"Complete", "is", "the", "of", ".", *NAMES, *RELATIONS, *VERBS.values(), *listed})
