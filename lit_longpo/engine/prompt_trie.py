"""Prompts that begin alike, as a tree of runs of tokens: what a row holds once for all groups below.

Groups share a run only if tokens and positions are the same from the first one on; then keys, values and hidden states
of its tokens are the same too, whatever follows. A run has to be long enough to pay for what it costs: one more call
of attention for everything behind it, or one more copy of its keys and values (`backends/`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Union

from lit_longpo.batch import Group

# Shortest run that is worth a segment of its own: chat templates begin all prompts with 20 to 50 tokens of their own.
SHARED_FROM = 128
_BLOCK = 4096  # tokens compared at a time


@dataclass(frozen=True)
class TrieNode:
    """A run of tokens that the prompts of some groups have in common, or that one group has for itself.

    Args:
        first: number of a group below it, whose tokens they are.
        start: of its first token in that group's prompt.
        stop: after its last token.
        children: in the groups' order: nodes that continue it, and numbers of groups whose prompt ends here.
    """

    first: int
    start: int
    stop: int
    children: tuple[Union["TrieNode", int], ...]


def prompt_trie(groups: Sequence[Group], shared_from: int | None) -> list[TrieNode]:
    """The groups' prompts, in the order in which each node's first group comes.

    Args:
        groups: each with a prompt of one token at least.
        shared_from: tokens of the shortest run that groups share; `None` shares none.
    """
    numbers = range(len(groups))
    if shared_from is None:
        return [_alone(groups, number, 0) for number in numbers]
    return [node for node in _children(groups, numbers, 0, max(1, shared_from)) if isinstance(node, TrieNode)]


def num_row_tokens(groups: Sequence[Group], shared_from: int | None) -> int:
    """Tokens of the row that groups make.

    Args:
        groups: each with a prompt of one token at least.
        shared_from: see `prompt_trie`.
    """
    answers = sum(len(response.token_ids) for group in groups for response in group.responses)
    return answers + sum(map(_num_tokens, prompt_trie(groups, shared_from)))


def _num_tokens(node: TrieNode) -> int:
    return node.stop - node.start + sum(_num_tokens(child) for child in node.children if isinstance(child, TrieNode))


def positions_of(group: Group) -> Sequence[int]:
    """Positions of the prompt's tokens."""
    return range(len(group.prompt_ids)) if group.position_ids is None else group.position_ids


def _children(
    groups: Sequence[Group], numbers: Sequence[int], start: int, shared_from: int
) -> tuple[TrieNode | int, ...]:
    """What comes after so many tokens that some groups have in common."""
    alike = dict[object, list[int]]()
    for number in numbers:
        alike.setdefault(_beginning(groups[number], start, shared_from) or number, []).append(number)
    children = list[tuple[int, TrieNode | int]]()
    for members in alike.values():
        if len(members) > 1:
            children.append((members[0], _shared(groups, members, start, shared_from)))
        elif len(groups[members[0]].prompt_ids) == start:
            children.append((members[0], members[0]))
        else:
            children.append((members[0], _alone(groups, members[0], start)))
    return tuple(child for _, child in sorted(children, key=lambda pair: pair[0]))


def _beginning(group: Group, start: int, length: int) -> object:
    """The next tokens and their positions; `None` if there are not so many."""
    if len(group.prompt_ids) - start < length:
        return None
    part = slice(start, start + length)
    return group.prompt_ids[part], None if group.position_ids is None else group.position_ids[part]


def _shared(groups: Sequence[Group], numbers: Sequence[int], start: int, shared_from: int) -> TrieNode:
    first = groups[numbers[0]]
    stop = min(_common(first, groups[number], start) for number in numbers[1:])
    return TrieNode(numbers[0], start, stop, _children(groups, numbers, stop, shared_from))


def _alone(groups: Sequence[Group], number: int, start: int) -> TrieNode:
    return TrieNode(number, start, len(groups[number].prompt_ids), (number,))


def _common(one: Group, other: Group, start: int) -> int:
    """How many first tokens two prompts have in common, at the same positions; `start` of them are."""
    stop = _common_values(one.prompt_ids, other.prompt_ids, start)
    if one.position_ids is None or other.position_ids is None:
        return stop
    return min(stop, _common_values(one.position_ids, other.position_ids, start))


def _common_values(one: tuple[int, ...], other: tuple[int, ...], start: int) -> int:
    end = min(len(one), len(other))
    while start < end:
        stop = min(start + _BLOCK, end)
        if one[start:stop] != other[start:stop]:
            return next(i for i in range(start, stop) if one[i] != other[i])
        start = stop
    return end
