"""Seeded worlds of readable facts: what to bring to whom. Any length, any number of hops.

    Pour Ada tea . Show Ben Oslo . Ada is the mentor of Ben .
    Complete: Pour Ada                    (one hop)    tea
    Complete: Pour the mentor of Ben      (two hops)   tea

Questions are statements to complete, which suits a model that never saw a question. Every example
has a world of its own, so that a value can only be read from the context, never remembered; train,
validation and test worlds come from different seeds. Nobody appears twice in a context while there
are people left who were not mentioned; then the verb tells their facts apart.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "val", "test"]

NAMES = tuple(
    "Abel Ada Adam Agnes Aino Alan Alba Alec Alice Alma Amos Amy Anna Anton Arlo Arne Asta Aurel Axel Bart Basil Bea "
    "Bela Ben Bert Beth Birgit Boris Bram Bruno Carl Carla Cathy Cecil Cleo Clive Cora Cyril Dana Daniel Daria David "
    "Dean Della Denis Dirk Dora Doris Duncan Edda Edgar Edith Edwin Egon Elena Elias Ella Elsa Emil Emma Enzo Erik Erna "
    "Esme Ethan Etta Eva Evan Fanny Felix Fern Fiona Finn Flora Floyd Frank Freya Fritz Gary Gemma George Gerda Gina "
    "Glen Grace Greta Gus Guy Hana Hank Harold Hazel Hedy Helga Henry Hilda Hugo Ida Igor Ilse Ines Ingrid Irene Iris "
    "Irma Isaac Ivan Ivo Jack Jana Jasper Jean Jenny Jill Joan Joel Jonas Judith Jules June Kai Kara Karl Kate Keith "
    "Kirk Klaus Kurt Lars Laura Lea Leon Lena Leroy Lewis Lily Lina Linus Lloyd Lois Lorna Lotte Louis Lucy Luis Luke "
    "Lydia Mabel Magda Malte Mara Marc Maria Martha Max Maya Mia Milan Milo Minna Moritz Myra Nadia Nancy Ned Nell "
    "Nico Nina Noah Noel Nora Odin Olaf Olga Oliver Omar Oscar Otis Otto Owen Pablo Paul Perry Petra Pia Piet Quin "
    "Ralph Rasmus Reed Rhoda Rita Robin Roger Rolf Rosa Roy Ruth Sally Sam Sara Saul Selma Seth Silas Simon Sonja "
    "Stella Sven Tara Tess Theo Tilda Tim Toni Tove Ugo Ulla Uma Vera Vic Vito Walt Wanda Wilma Wren Xena Yara Yuri Zoe".split()
)

# attribute -> (the verb that states it, its values)
ATTRIBUTES = {
    "city": ("Show", "Oslo Rome Cairo Lima Delhi Tokyo Paris Quito Dakar Sofia Hanoi Accra Perth Turin Kyoto Minsk"),
    "pet": ("Buy", "cats dogs parrots rabbits turtles hamsters goats ferrets geckos ponies ducks hens newts mice bees owls"),
    "food": ("Cook", "soup bread rice pasta curry salad beans cheese fish eggs stew noodles pie plums olives figs"),
    "instrument": ("Lend", "cellos flutes harps pianos drums violins banjos tubas organs oboes lutes guitars horns lyres"),
    "sport": ("Teach", "judo tennis golf rowing chess boxing cricket hockey archery fencing rugby diving skating polo"),
    "drink": ("Pour", "tea coffee milk juice cider water cocoa lemonade mead soda wine punch beer kefir tonic broth"),
    "flower": ("Pick", "roses tulips lilies daisies poppies violets asters irises orchids peonies clover heather lilac ivy"),
    "tool": ("Hand", "hammers pliers saws chisels files drills wrenches axes rakes shovels ladders brushes ropes nails"),
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
            return f"{ATTRIBUTES[self.name][0]} {self.person} {self.value} ."
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
        population: how many people live there.
    """

    def __init__(self, split: Split, seed: int, population: int = len(NAMES)) -> None:
        self.random = random.Random(f"{split}-{seed}")
        self.people = NAMES[:population]
        self._stated: set[tuple[str, str]] = set()
        self._fresh = self.random.sample(self.people, population)

    def fact(self, person: str | None = None) -> Fact:
        """A new attribute fact about `person`, or about somebody not mentioned yet if there is anybody left.

        Raises:
            ValueError: everything has been stated.
        """
        who = person or (self._fresh.pop() if self._fresh else self.random.choice(self.people))
        what = self.random.choice(list(ATTRIBUTES))
        while (who, what) in self._stated:
            if len(self._stated) == len(self.people) * len(ATTRIBUTES):
                raise ValueError(f"all {len(self._stated)} facts of this world are stated; ask for a shorter context")
            who, what = self.random.choice(self.people), self.random.choice(list(ATTRIBUTES))
        self._stated.add((who, what))
        return Fact(who, what, self.random.choice(values(what)))

    def question(self, hops: int = 1) -> Question:
        """A question that takes `hops` facts to answer: hops - 1 relations, then an attribute.

        Raises:
            ValueError: there are not enough people left.
        """
        if len(self._fresh) < hops:
            raise ValueError(f"expected at least {hops} people not mentioned yet, got {len(self._fresh)}; ask for less")
        chain = [self._fresh.pop() for _ in range(hops)]
        names = self.random.sample(RELATIONS, hops - 1)
        links = [Fact(a, name, b) for a, name, b in zip(chain, names, chain[1:], strict=False)]
        last = self.fact(person=chain[-1])
        path = "".join(f"the {link.name} of " for link in reversed(links))
        text = f"{ATTRIBUTES[last.name][0]} {path}{chain[0]}"
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
