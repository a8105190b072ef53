"""Draws examples at random: a subset of them, or an order, with those about one context side by side."""

import random
from collections.abc import Iterable, Sequence

from evaluation.benchmark import Example
from evaluation.running.preflight import each_id_once
from evaluation.running.settings import RunSettings


def subset(
    examples: Iterable[Example],
    task: str,
    settings: RunSettings,
    *,
    drawn_with: str | None = None,
    whole_contexts: bool = False,
) -> tuple[list[Example], int]:
    """The examples to answer, in the official order, and how many there are in all.

    Args:
        examples: of the task.
        task: its name.
        settings: how many, and the seed that chooses them.
        drawn_with: name of the tasks that choose the same contexts; `None` means its own.
        whole_contexts: choose contexts with all of their examples, as many as the limit holds; of the first context
            as many examples as the limit, if it has more.
    """
    every = list(each_id_once(examples, task))
    if settings.limit is None or settings.limit >= len(every):
        return every, len(every)
    seed, alike = f"{settings.seed}-{drawn_with or task}", drawn_with not in (None, task)
    together = whole_contexts or alike
    keys = [each.context_key if together else str(number) for number, each in enumerate(every)]
    chosen = list[int]()
    for group in _groups(keys, seed, alike=alike):
        if chosen and len(chosen) + len(group) > settings.limit:
            break
        chosen += group[: settings.limit]
    return [every[number] for number in sorted(chosen)], len(every)


def shuffled(examples: Sequence[Example], seed: str, *, alike: bool = False) -> list[Example]:
    """The examples in a random order, those about the same context side by side.

    Args:
        examples: to be asked; whoever has the same ones and the same seed gets the same order.
        seed: of the order.
        alike: whether others about the same contexts, in other texts, are to come in the same order.
    """
    keys = [each.context_key if alike else each.fields.get("context", each.id) for each in examples]
    return [examples[number] for group in _groups(keys, seed, alike=alike) for number in group]


def _groups(keys: Iterable[str], seed: str, *, alike: bool = False) -> list[list[int]]:
    """Numbers of examples with equal keys, group by group in a random order.

    Args:
        keys: of the examples, in their order.
        seed: of the order of the groups.
        alike: whether others with the same keys, in whatever order, are to have their groups in the same order.
    """
    groups = dict[str, list[int]]()
    for number, key in enumerate(keys):
        groups.setdefault(key, []).append(number)
    order = [groups[key] for key in (sorted(groups) if alike else groups)]
    random.Random(seed).shuffle(order)
    return order
