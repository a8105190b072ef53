"""Harder needles in the manner of RULER (arXiv 2404.06654), with a generator and wordings of our own.

`multi_key`: several keys, one is asked. `multi_value`: one key, all of its values are asked.
`multi_query`: several keys, all are asked. `variable_tracking`: chains of assignments, all variables of one
value are asked.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

from lit_longpo.ranges import check_numbers

_COLOURS = (
    *("amber", "azure", "bronze", "coral", "crimson", "emerald", "golden", "indigo"),
    *("ivory", "maroon", "ochre", "olive", "purple", "scarlet", "silver", "violet"),
)
_ANIMALS = (
    *("badger", "beaver", "camel", "eagle", "falcon", "heron", "jackal", "lizard"),
    *("marten", "otter", "panther", "rabbit", "salmon", "spider", "turtle", "walrus"),
)
_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"  # without vowels, so that no variable's name is part of a word


@dataclass(frozen=True)
class Sizes:
    """How much is hidden.

    Args:
        num_keys: keys of `multi_key`, of which one is asked; at least as many as the grid has depths.
        num_values: values of `multi_value`; keys of `multi_query`.
        num_chains: chains of `variable_tracking`, of which one is asked.
        num_hops: assignments in a chain after its first variable.

    Raises:
        InputError: a number is below 1 or above 100.
    """

    num_keys: int = 8
    num_values: int = 4
    num_chains: int = 2
    num_hops: int = 4

    def __post_init__(self) -> None:
        check_numbers(self, "sizes.", **{item.name: (1, 100) for item in fields(self)})


@dataclass(frozen=True)
class NeedleQuestion:
    """What is hidden and what is asked.

    Args:
        facts: depth and sentence of each.
        answers: strings that should all be in the response.
    """

    facts: tuple[tuple[float, str], ...]
    question: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class NeedleTask:
    """How one of the tasks is made.

    Args:
        make: draws facts and a question. With `has_depth` one fact lies at each of the depths, and the number says
            which one is asked; nothing else depends on that number.
        max_new_tokens: tokens of an answer at most.
        has_depth: False if the facts are scattered over the whole context.
    """

    make: Callable[[random.Random, Sequence[float], int, Sizes], NeedleQuestion]
    max_new_tokens: int
    has_depth: bool


def multi_key(draw: random.Random, depths: Sequence[float], asked: int, sizes: Sizes) -> NeedleQuestion:
    """Keys that look alike, each with a number; one of those at `depths` is asked, the others are scattered."""
    count = max(sizes.num_keys, len(depths))
    keys, numbers = _keys(draw, count), _numbers(draw, count)
    facts = [_fact(key, number) for key, number in zip(keys, numbers, strict=True)]
    places = (*depths, *_scattered(draw, count - len(depths)))
    question = f"What is the locker number of the {keys[asked]}?"
    return NeedleQuestion(tuple(zip(places, facts, strict=True)), question, (numbers[asked],))


def multi_value(draw: random.Random, depths: Sequence[float], asked: int, sizes: Sizes) -> NeedleQuestion:
    """One key with several numbers, scattered; all of them are asked."""
    key, numbers = _keys(draw, 1)[0], _numbers(draw, sizes.num_values)
    facts = zip(_scattered(draw, len(numbers)), [_fact(key, number) for number in numbers], strict=True)
    question = f"What are all the locker numbers of the {key}? List every one of them."
    return NeedleQuestion(tuple(facts), question, numbers)


def multi_query(draw: random.Random, depths: Sequence[float], asked: int, sizes: Sizes) -> NeedleQuestion:
    """Several keys with a number each, scattered; all of them are asked."""
    keys, numbers = _keys(draw, sizes.num_values), _numbers(draw, sizes.num_values)
    facts = [_fact(key, number) for key, number in zip(keys, numbers, strict=True)]
    listed = ", ".join(f"the {key}" for key in keys)
    question = f"What are the locker numbers of these: {listed}? List every one of them."
    return NeedleQuestion(tuple(zip(_scattered(draw, len(facts)), facts, strict=True)), question, numbers)


def variable_tracking(draw: random.Random, depths: Sequence[float], asked: int, sizes: Sizes) -> NeedleQuestion:
    """Chains of assignments, each in the order of the text; all variables of one chain are asked."""
    numbers = _numbers(draw, sizes.num_chains)
    length = sizes.num_hops + 1
    names = distinct(sizes.num_chains * length, lambda: "".join(draw.choices(_LETTERS, k=5)))
    chains = [names[start : start + length] for start in range(0, len(names), length)]
    facts: list[tuple[float, str]] = []
    for chain, number in zip(chains, numbers, strict=True):
        sources = [number, *(f"the value of variable {name}" for name in chain)]
        lines = [f"Variable {name} is set to {source}." for name, source in zip(chain, sources, strict=False)]
        facts += zip(_scattered(draw, length), lines, strict=True)
    question = (
        f"Which variables have the value {numbers[0]}, directly or by way of other variables? List every one of them."
    )
    return NeedleQuestion(tuple(facts), question, tuple(chains[0]))


NEEDLE_TASKS: Mapping[str, NeedleTask] = {
    "multi_key": NeedleTask(multi_key, 32, has_depth=True),
    "multi_value": NeedleTask(multi_value, 128, has_depth=False),
    "multi_query": NeedleTask(multi_query, 128, has_depth=False),
    "variable_tracking": NeedleTask(variable_tracking, 128, has_depth=False),
}


def _fact(key: str, number: str) -> str:
    return f"The locker number of the {key} is {number}."


def _keys(draw: random.Random, count: int) -> list[str]:
    return distinct(count, lambda: f"{draw.choice(_COLOURS)} {draw.choice(_ANIMALS)}")


def _numbers(draw: random.Random, count: int) -> tuple[str, ...]:
    return tuple(distinct(count, lambda: str(draw.randrange(100_000, 1_000_000))))


def distinct(count: int, make: Callable[[], str]) -> list[str]:
    """Texts that all differ, in the order in which they are first made."""
    texts: dict[str, None] = {}
    while len(texts) < count:
        texts[make()] = None
    return list(texts)


def _scattered(draw: random.Random, count: int) -> Sequence[float]:
    """Ascending depths, one in each of `count` equal parts of the context."""
    return [(number + draw.random()) / count for number in range(count)]
