"""Finds examples that repeat another one, or contradict it (chosen and rejected swapped in the same context)."""

from array import array
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from data_modules.rows.encoding import EncodedPair
from lit_longpo.batch import Context

_KEYS = "q"  # 64 bits: Python's hash of a tuple of whole numbers, the same in every process


class RepeatedPairs:
    """Keys of what the examples of a split say, in a few bytes each."""

    def __init__(self) -> None:
        self._whole, self._owners = array(_KEYS), array(_KEYS)
        self._preferred, self._opposite = array(_KEYS), array(_KEYS)

    def add(self, example: EncodedPair) -> None:
        """Take note of what the policy reads of an example."""
        said = [(group.prompt_ids, [answer.token_ids for answer in group.responses]) for group in example.policy]
        for prompt, chosen, rejected in _preferences(example):
            self._owners.append(len(self._whole))
            self._preferred.append(hash((prompt, chosen, rejected)))
            self._opposite.append(hash((prompt, rejected, chosen)))
        self._whole.append(hash(tuple((prompt, *answers) for prompt, answers in said)))

    @property
    def repeated(self) -> int:
        """Examples with all tokens of an earlier one."""
        return len(self._whole) - len(np.unique(np.asarray(self._whole)))

    @property
    def opposed(self) -> int:
        """Examples that prefer an answer to one which another example prefers to it, in the same context."""
        found = np.isin(np.asarray(self._opposite), np.asarray(self._preferred))
        return len(np.unique(np.asarray(self._owners)[found]))


def opposed_across(sources: Sequence[RepeatedPairs]) -> int:
    """Examples that prefer an answer to one which an example of another source prefers to it, in the same context."""
    preferred = [np.asarray(source._preferred) for source in sources]
    count = 0
    for number, source in enumerate(sources):
        others = np.concatenate([keys for other, keys in enumerate(preferred) if other != number] or [preferred[0][:0]])
        found = np.isin(np.asarray(source._opposite), others)
        count += len(np.unique(np.asarray(source._owners)[found]))
    return count


def _preferences(example: EncodedPair) -> Iterator[tuple[int, int, int]]:
    """Hashes of prompt, chosen and rejected answer, for each that differ; groups without sharing hold one answer."""
    prompts = dict[tuple[Context, int], int]()
    chosen, rejected = dict[tuple[Context, int], list[int]](), dict[tuple[Context, int], list[int]]()
    for group in example.policy:
        place = group.context, group.turn
        prompts[place] = hash(group.prompt_ids)
        for answer in group.responses:
            (chosen if answer.role == "chosen" else rejected).setdefault(place, []).append(hash(answer.token_ids))
    for place, prompt in prompts.items():
        for better, worse in product(chosen.get(place, ()), rejected.get(place, ())):
            if better != worse:
                yield prompt, better, worse
