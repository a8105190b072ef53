"""An example as one run of 32-bit words, and back: how its groups are laid out, their tokens and positions, masks.

    words in the layout | layout | prompt, positions, responses of each group | masks, one bit a token

The layout has the number of policy and reference groups, then seven words for each group (context, turn, prompt tokens,
responses, whether it has positions, whether its sequence is scored, entries of its sequence mask) and three for each
response (role, index, tokens).
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from data_modules.rows.encoding import EncodedPair
from lit_longpo.batch import Context, Group, Response, Role

Words = NDArray[np.int32]

_CONTEXTS, _ROLES = get_args(Context), get_args(Role)
_SAME = -1  # in place of a number: reference groups that are the policy's, a mask that is not there


def to_words(example: EncodedPair) -> Words:
    """The example's words. Shape: (words,)."""
    groups = (*example.policy, *(() if example.same_row else example.reference))
    head = [len(example.policy), _SAME if example.same_row else len(example.reference)]
    tokens, masks = list[int](), list[bool]()
    for group in groups:
        head += (
            _CONTEXTS.index(group.context),
            group.turn,
            len(group.prompt_ids),
            len(group.responses),
            group.position_ids is not None,
            group.score_sequence,
            _SAME if group.sequence_mask is None else len(group.sequence_mask),
        )
        tokens += (*group.prompt_ids, *(group.position_ids or ()))
        for response in group.responses:
            head += (_ROLES.index(response.role), response.index, len(response.token_ids))
            tokens += response.token_ids
            masks += response.mask
        masks += group.sequence_mask or ()
    packed = np.packbits(np.array(masks, dtype=np.bool_))
    bits = np.frombuffer(packed.tobytes() + bytes(-len(packed) % 4), dtype="<i4")
    return np.concatenate([np.array([len(head), *head, *tokens], dtype=np.int32), bits])


def from_words(words: Words, name: str) -> tuple[tuple[Group, ...], tuple[Group, ...]]:
    """Policy and reference groups of an example; the same object where they are the same."""
    num_head = int(words[0])
    layouts, num_policy, num_reference = _layouts(words)
    num_tokens, num_bits = (sum(sizes) for sizes in zip(*((x.num_tokens, x.num_bits) for x in layouts), strict=True))
    tokens = _Cursor(words[1 + num_head : 1 + num_head + num_tokens].tolist())
    bits = np.unpackbits(words[1 + num_head + num_tokens :].view(np.uint8), count=num_bits)
    masks = _Cursor(bits.view(np.bool_).tolist())
    groups = tuple(layout.group(name, tokens, masks) for layout in layouts)
    policy = groups[:num_policy]
    return policy, policy if num_reference == _SAME else groups[num_policy:]


def reference_length(words: Words) -> int:
    """Tokens of the reference's groups in a row; nothing but the layout is read.

    Args:
        words: of an example. Shape: (words,).
    """
    layouts, num_policy, num_reference = _layouts(words)
    return sum(layout.length for layout in (layouts if num_reference == _SAME else layouts[num_policy:]))


def _layouts(words: Words) -> tuple[list["_Layout"], int, int]:
    """Of all groups, the policy's first; and how many groups each has."""
    head = iter(words[1 : 1 + int(words[0])].tolist())
    num_policy, num_reference = next(head), next(head)
    layouts = [_Layout.read(head) for _ in range(num_policy + max(0, num_reference))]
    return layouts, num_policy, num_reference


class _Cursor:
    """Values that are taken from the front."""

    def __init__(self, values: list[Any]) -> None:
        self._values, self._position = values, 0

    def take(self, count: int) -> tuple[Any, ...]:
        start = self._position
        self._position += count
        return tuple(self._values[start : self._position])


class _Layout(NamedTuple):
    """How many tokens and mask bits each part of a group has."""

    context: int
    turn: int
    num_prompt: int
    has_positions: int
    score_sequence: int
    num_sequence: int
    responses: tuple[tuple[int, int, int], ...]  # role, index, tokens

    @classmethod
    def read(cls, head: Iterator[int]) -> "_Layout":
        context, turn, num_prompt, num_responses, has_positions, score_sequence, num_sequence = islice(head, 7)
        responses = tuple((next(head), next(head), next(head)) for _ in range(num_responses))
        return cls(context, turn, num_prompt, has_positions, score_sequence, num_sequence, responses)

    @property
    def length(self) -> int:
        """Tokens in a row."""
        return self.num_prompt + sum(count for *_, count in self.responses)

    @property
    def num_tokens(self) -> int:
        return self.num_prompt * (1 + self.has_positions) + sum(count for *_, count in self.responses)

    @property
    def num_bits(self) -> int:
        return max(0, self.num_sequence) + sum(count for *_, count in self.responses)

    def group(self, name: str, tokens: _Cursor, masks: _Cursor) -> Group:
        prompt = tokens.take(self.num_prompt)
        positions = tokens.take(self.num_prompt) if self.has_positions else None
        responses = tuple(
            Response(_ROLES[role], tokens.take(count), masks.take(count), index)
            for role, index, count in self.responses
        )
        sequence = None if self.num_sequence == _SAME else masks.take(self.num_sequence)
        return Group(
            name, _CONTEXTS[self.context], prompt, responses, positions, self.turn, bool(self.score_sequence), sequence
        )
