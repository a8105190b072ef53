"""Which prompts share a batch, which share a beginning, and which process answers what: pure planning."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from evaluation.benchmark import Example
from evaluation.prompting import Prompt
from lit_longpo.engine import Limits
from lit_longpo.ranges import MOST_TOKENS, check_numbers

PromptedExample = tuple[Example, Prompt]
_ROUNDS = 4  # between two looks at the clock before prompts are built


@dataclass(frozen=True)
class Batching:
    """How prompts share forward passes. Answers do not depend on it, except for rounding.

    Args:
        max_batch_tokens: padded prompt tokens of one batch; one prompt may exceed it.
        prefill_chunk: prompt tokens of one forward, so that a prompt of any length fits; `None` means all.
        min_shared: prompts share the keys and values of a common beginning if it has this many tokens, and at least
            half of each prompt; 0 means never. Layers with a state answer such prompts one after the other, layers with
            a window only prompts of one length together.
    """

    max_batch_tokens: int = 16384
    prefill_chunk: int | None = 4096
    min_shared: int = 256

    def __post_init__(self) -> None:
        sizes = dict.fromkeys(("max_batch_tokens", "prefill_chunk"), (1, MOST_TOKENS))
        check_numbers(self, "batching.", **sizes, min_shared=(0, MOST_TOKENS))


@dataclass(frozen=True)
class Batch:
    """Prompts that are answered together.

    Args:
        shared: tokens at the beginning that they all share and that are computed once; 0 for padded batches.
    """

    numbers: tuple[int, ...]
    shared: int = 0


@dataclass(frozen=True)
class Round:
    """One batch for each process; the last round may have fewer.

    Args:
        batches: by process.
        width: tokens of the longest prompt.
    """

    batches: tuple[Batch, ...]
    width: int


def limits(prompt: Prompt) -> Limits:
    """When the prompt's answer ends."""
    return Limits(prompt.max_new_tokens, prompt.stop_ids, prompt.min_new_tokens)


def plan_rounds(prompts: Sequence[Prompt], batching: Batching, num_ranks: int, seed: int | None = None) -> list[Round]:
    """Rounds, the longest prompts first, or in a random order.

    All batches of a round have the same limits, so that processes with sharded weights stay in step.

    Args:
        prompts: what is asked.
        batching: how.
        num_ranks: processes that answer.
        seed: of a random order, in which a run that is stopped leaves no kind of prompt out.
    """
    rounds = list[Round]()
    numbers = sorted(range(len(prompts)), key=lambda number: repr(limits(prompts[number])))
    for _, alike in groupby(numbers, key=lambda number: limits(prompts[number])):
        batches = _batches(list(alike), prompts, batching)
        for start in range(0, len(batches), num_ranks):
            together = tuple(batches[start : start + num_ranks])
            width = max(len(prompts[number].ids) for batch in together for number in batch.numbers)
            rounds.append(Round(together, width))
    if seed is not None:
        random.Random(seed).shuffle(rounds)
        return rounds
    return sorted(rounds, key=lambda item: -item.width)


def _batches(numbers: Sequence[int], prompts: Sequence[Prompt], batching: Batching) -> list[Batch]:
    """The longest first."""
    families = list(_families(numbers, prompts, batching.min_shared)) if batching.min_shared else []
    taken = {number for family in families for number in family.numbers}
    alone = sorted((n for n in numbers if n not in taken), key=lambda number: -len(prompts[number].ids))
    batches = list[list[int]]()
    for number in alone:  # neighbours in length share a batch, so that little is padding
        if not batches or (len(batches[-1]) + 1) * len(prompts[batches[-1][0]].ids) > batching.max_batch_tokens:
            batches.append([])
        batches[-1].append(number)
    batched = [*families, *(Batch(tuple(batch)) for batch in batches)]
    return sorted(batched, key=lambda batch: -max(len(prompts[number].ids) for number in batch.numbers))


def _families(numbers: Sequence[int], prompts: Sequence[Prompt], min_shared: int) -> Iterator[Batch]:
    """Prompts with a long common beginning; they are neighbours when sorted."""
    ordered = sorted(numbers, key=lambda number: prompts[number].ids)
    family, shared = ordered[:1], 0
    for number in ordered[1:]:
        common = shareable_length(prompts[family[0]].ids, prompts[number].ids)
        kept = min(shared or common, common)
        if kept >= max(min_shared, *(len(prompts[n].ids) / 2 for n in (*family, number))):
            family, shared = [*family, number], kept
            continue
        if len(family) > 1:
            yield Batch(tuple(family), shared)
        family, shared = [number], 0
    if len(family) > 1:
        yield Batch(tuple(family), shared)


def shareable_length(first: Sequence[int], second: Sequence[int]) -> int:
    """Tokens that both begin with, short of the whole of either: each keeps one to continue from."""
    size = min(len(first), len(second)) - 1
    different = np.flatnonzero(np.asarray(first[:size]) != np.asarray(second[:size]))
    return int(different[0]) if len(different) else size


def portion(asked: Iterator[PromptedExample], batching: Batching, num_ranks: int) -> list[PromptedExample]:
    """The next prompts, enough for about four rounds of answers; none if all have been taken.

    Args:
        asked: examples and their prompts, which are built as they are taken.
        batching: which prompts share a forward.
        num_ranks: processes that answer.
    """
    room, taken = _ROUNDS * num_ranks * batching.max_batch_tokens, list[PromptedExample]()
    for item in asked:
        taken.append(item)
        room -= min(len(item[1].ids), batching.max_batch_tokens)
        if room <= 0:
            break
    return taken
