"""Tokenised examples in little memory: 4 bytes a token instead of the 36 of a tuple of Python integers."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from data_modules.rows.encoding import EncodedPair
from lit_longpo.batch import Group, Response


@dataclass(frozen=True)
class _Stored:
    """A group whose token lists have moved into arrays; the group that is left holds everything else."""

    rest: Group
    prompt_ids: NDArray[np.int32]
    position_ids: NDArray[np.int32] | None
    responses: tuple[tuple[Response, NDArray[np.int32], NDArray[np.bool_]], ...]


class TokenStore(Sequence[EncodedPair]):
    """Tokenised examples by index; each is put together anew when it is asked for.

    Args:
        examples: consumed one by one.
    """

    def __init__(self, examples: Iterable[EncodedPair]) -> None:
        self.names: list[str] = []
        self.lengths: list[int] = []
        self._rows: list[tuple[tuple[_Stored, ...], tuple[_Stored, ...] | None]] = []
        self._emphasis: list[tuple[float, float]] = []  # weight and margin
        for example in examples:
            self.names.append(example.policy[0].example)
            self.lengths.append(example.num_tokens)
            self._emphasis.append((example.weight, example.margin))
            reference = None if example.same_row else tuple(map(_store, example.reference))
            self._rows.append((tuple(map(_store, example.policy)), reference))

    def __len__(self) -> int:
        return len(self._rows)

    def fingerprint(self) -> str:
        """Hash of every name, token, mask and position, in order (32 hex digits)."""
        digest = hashlib.sha256()
        for name, (policy, reference), emphasis in zip(self.names, self._rows, self._emphasis, strict=True):
            digest.update(name.encode())
            if emphasis != (1.0, 0.0):  # data without weights and margins have the hash that they always had
                digest.update(repr(emphasis).encode())
            for group in (*policy, *(reference or ())):
                _update(digest, group)
        return digest.hexdigest()[:32]

    @overload
    def __getitem__(self, index: int) -> EncodedPair: ...
    @overload
    def __getitem__(self, index: slice) -> list[EncodedPair]: ...
    def __getitem__(self, index: int | slice) -> EncodedPair | list[EncodedPair]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        stored_policy, stored_reference = self._rows[index]
        policy = tuple(map(_restore, stored_policy))
        reference = policy if stored_reference is None else tuple(map(_restore, stored_reference))
        return EncodedPair(policy, reference, *self._emphasis[index])


def _update(digest: "hashlib._Hash", group: _Stored) -> None:
    arrays: list[NDArray[Any]] = [group.prompt_ids, *([] if group.position_ids is None else [group.position_ids])]
    for response, ids, mask in group.responses:
        digest.update(repr(response).encode())
        arrays += [ids, mask]
    digest.update(repr((group.rest, [len(array) for array in arrays])).encode())
    for array in arrays:
        digest.update(array.tobytes())


def _store(group: Group) -> _Stored:
    positions = None if group.position_ids is None else np.array(group.position_ids, dtype=np.int32)
    responses = tuple(
        (
            replace(response, token_ids=(), mask=()),
            np.array(response.token_ids, dtype=np.int32),
            np.array(response.mask, dtype=np.bool_),
        )
        for response in group.responses
    )
    rest = replace(group, prompt_ids=(), position_ids=None, responses=())
    return _Stored(rest, np.array(group.prompt_ids, dtype=np.int32), positions, responses)


def _restore(stored: _Stored) -> Group:
    return replace(
        stored.rest,
        prompt_ids=tuple(stored.prompt_ids.tolist()),
        position_ids=None if stored.position_ids is None else tuple(stored.position_ids.tolist()),
        responses=tuple(
            replace(rest, token_ids=tuple(ids.tolist()), mask=tuple(mask.tolist()))
            for rest, ids, mask in stored.responses
        ),
    )
