"""A time-boxed run takes its examples in a random order, a few rounds of prompts at a time."""

import random
from collections.abc import Iterator, Sequence

from evaluation.batching import Batching
from evaluation.benchmark import Example
from evaluation.prompting import Prompt

Asked = tuple[Example, Prompt]
_ROUNDS = 4  # between two looks at the clock before prompts are built


def shuffled(examples: Sequence[Example], seed: str) -> list[Example]:
    """The examples in a random order, those about the same context side by side.

    Args:
        examples: to be asked; whoever has the same ones and the same seed gets the same order.
        seed: of the order.
    """
    groups = dict[str, list[Example]]()
    for example in examples:
        groups.setdefault(example.fields.get("context", example.id), []).append(example)
    order = list(groups.values())
    random.Random(seed).shuffle(order)
    return [example for group in order for example in group]


def portion(asked: Iterator[Asked], batching: Batching, num_ranks: int) -> list[Asked]:
    """The next prompts, enough for about four rounds of answers; none if all have been taken.

    Args:
        asked: examples and their prompts, which are built as they are taken.
        batching: which prompts share a forward.
        num_ranks: processes that answer.
    """
    room, taken = _ROUNDS * num_ranks * batching.max_batch_tokens, list[Asked]()
    for item in asked:
        taken.append(item)
        room -= min(len(item[1].ids), batching.max_batch_tokens)
        if room <= 0:
            break
    return taken
