"""Seeded worlds of readable facts about people: any length, any number of hops.

    Ada visits Oslo . Ben plays cello . Ada is the mentor of Ben .
    Complete: Ada visits                    (one hop)    Oslo
    Complete: the mentor of Ben visits      (two hops)   Oslo

Questions are statements to complete, which suits a model that never saw a question. Every example
has a world of its own, so that a value can only be read from the context, never remembered; train,
validation and test worlds come from different seeds.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "val", "test"]

NAMES = tuple(
    "Ada Abel Alma Amos Anna Arlo Asta Axel Bea Ben Boris Carl Cleo Cora Dan Dora Egon Elsa Emil Esme Eva Finn "
    "Flora Gary Gina Gus Hana Hank Hedy Hugo Ida Igor Iris Ivo Jack Jana Joel June Kai Kara Kurt Lars Lea Leon "
    "Lina Luis Mara Max Mia Milo Nina Noel Nora Olga Omar Otto Paul Pia Quin Rita Rosa Ruth Sam Sara Seth Sven "
    "Tara Tess Theo Toni Ugo Uma Vera Vic Walt Wren Xena Yara Yuri Zoe".split()
)

# attribute -> (the verb that states it, its values)
ATTRIBUTES = {
    "city": ("visits", "Oslo Rome Cairo Lima Delhi Tokyo Paris Quito Dakar Sofia Hanoi Accra Perth Turin Kyoto Minsk"),
    "job": ("hires", "nurses bakers pilots judges tailors farmers miners poets welders tutors clerks divers guards cooks"),
    "pet": ("keeps", "cats dogs parrots rabbits turtles hamsters goats ferrets geckos ponies ducks hens newts mice bees"),
    "food": ("eats", "soup bread rice pasta curry salad beans cheese fish eggs stew noodles pie plums olives figs"),
    "instrument": ("plays", "cello flute harp piano drums violin banjo tuba organ oboe lute guitar horn fiddle bugle lyre"),
    "sport": ("practises", "judo tennis golf rowing chess boxing cricket hockey archery fencing rugby diving skating polo"),
    "drink": ("drinks", "tea coffee milk juice cider water cocoa lemonade mead soda wine punch beer kefir tonic broth"),
    "color": ("wears", "red blue green amber ivory black white purple teal pink gray brown scarlet bronze cream khaki"),
}
RELATIONS = ("mentor", "friend", "cousin", "tenant")

@dataclass(frozen=True)
class Fact:
    """A statement about one person: an attribute's value, or a relation to another person."""

    person: str
    name: str
    value: str

    @property
    def sentence(self) -> str:
        """The fact in words."""
        if self.name in ATTRIBUTES:
            return f"{self.person} {ATTRIBUTES[self.name][0]} {self.value} ."
        return f"{self.value} is the {self.name} of {self.person} ."


@dataclass(frozen=True)
class Question:
    """A question, its answer and the facts that settle it, in the order they are needed."""

    text: str
    answer: str
    attribute: str
    supporting: tuple[Fact, ...]


def values(attribute: str) -> tuple[str, ...]:
    """Every value an attribute can take."""
    return tuple(ATTRIBUTES[attribute][1].split())


class World:
    """One example's world: draws facts that never contradict each other.

    Args:
        split: worlds of different splits are unrelated.
        seed: same split and seed, same world.
        num_attributes: how many attributes people have in this world; `None` means all.
    """

    def __init__(self, split: Split, seed: int, num_attributes: int | None = None) -> None:
        self.random = random.Random(f"{split}-{seed}")
        names = list(ATTRIBUTES)
        self._attributes = names if num_attributes is None else self.random.sample(names, num_attributes)
        self._stated: set[tuple[str, str]] = set()

    def fact(self, person: str | None = None, attribute: str | None = None) -> Fact:
        """A new attribute fact: nobody's attribute is stated twice.

        Raises:
            ValueError: everything has been stated.
        """
        for _ in range(1000):
            who = person or self.random.choice(NAMES)
            what = attribute or self.random.choice(self._attributes)
            if (who, what) not in self._stated:
                self._stated.add((who, what))
                return Fact(who, what, self.random.choice(values(what)))
        raise ValueError(f"this world has no room for another fact after {len(self._stated)}; ask for fewer tokens")

    def question(self, hops: int = 1) -> Question:
        """A question that takes `hops` facts to answer: hops - 1 relations, then an attribute."""
        chain = self.random.sample(NAMES, hops)
        while all((chain[-1], name) in self._stated for name in self._attributes):
            chain = self.random.sample(NAMES, hops)
        names = self.random.sample(RELATIONS, hops - 1)
        links = [Fact(a, name, b) for a, name, b in zip(chain, names, chain[1:], strict=False)]
        last = self.fact(person=chain[-1])
        path = "".join(f"the {link.name} of " for link in reversed(links))
        text = f"{path}{chain[0]} {ATTRIBUTES[last.name][0]}"
        return Question(text, last.value, last.name, (*links, last))

    def distractors(self, num_words: int) -> list[Fact]:
        """New facts of together at least `num_words` words, at most one sentence more."""
        facts, total = [], 0
        while total < num_words:
            facts.append(self.fact())
            total += num_words_of(facts[-1].sentence)
        return facts

    def wrong_answer(self, question: Question, distractors: Sequence[Fact]) -> str:
        """Another value of the asked attribute, taken from the distractors where they state one."""
        near = [fact.value for fact in distractors if fact.name == question.attribute]
        others = [value for value in near or values(question.attribute) if value != question.answer]
        return self.random.choice(others or [v for v in values(question.attribute) if v != question.answer])

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
    words = {"Complete", "is", "the", "of", ".", *NAMES, *RELATIONS}
    for name, (verb, listed) in ATTRIBUTES.items():
        words |= {name, *verb.split(), *listed.split()}
    return sorted(words)
