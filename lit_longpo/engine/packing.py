"""Groups -> one row and its segment table. Pure and host side; no model, no kernel.

Layout of one group with k responses (| marks piece borders):

    prompt | response_0 | response_1 | ... | response_{k-1}

The *trunk* segment holds the queries of prompt and response_0 and sees both. Every further response
is a *branch*: its queries see the prompt and itself. Groups never see each other.
"""

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from lit_longpo.batch import Group, PackedBatch, Response, Segment, SegmentTable, Slot


@dataclass
class _Row:
    """The row under construction."""

    input_ids: list[int] = field(default_factory=list)
    position_ids: list[int] = field(default_factory=list)
    pieces: list[int] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    score_index: list[int] = field(default_factory=list)
    score_targets: list[int] = field(default_factory=list)
    score_owners: list[int] = field(default_factory=list)

    def append(self, token_ids: Sequence[int], position_ids: Sequence[int]) -> int:
        self.input_ids.extend(token_ids)
        self.position_ids.extend(position_ids)
        self.pieces.append(len(token_ids))
        return len(self.pieces) - 1

    def score(self, response: Response, prompt_end: int, start: int, owner: int) -> None:
        """Every masked-in token is predicted by the token before it; the first one by the prompt's last."""
        for offset, (token, scored) in enumerate(zip(response.token_ids, response.mask, strict=True)):
            if scored:
                self.score_index.append(start + offset - 1 if offset else prompt_end)
                self.score_targets.append(token)
                self.score_owners.append(owner)


def pack(groups: Sequence[Group]) -> PackedBatch:
    """Lay groups side by side in one row.

    Args:
        groups: at least one group; several groups may belong to the same example.

    Returns:
        The row, its segment table and what has to be scored.

    Raises:
        ValueError: there is no group, or a group breaks a rule stated in `Group` and `Response`.
    """
    if not groups:
        raise ValueError("expected at least one group to pack, got none; check the batch sampler's budget")
    row = _Row()
    examples = {name: number for number, name in enumerate(dict.fromkeys(group.example for group in groups))}
    slots: dict[Slot, int] = {}
    digests: list[list[str]] = []
    seen: set[tuple[Slot, int]] = set()
    for group in groups:
        _check(group)
        for slot, response, start, prompt_end in _lay_out(row, group, examples[group.example]):
            if (slot, group.turn) in seen:
                raise ValueError(
                    f"expected one {slot.context}.{slot.role}[{slot.index}] response per turn of record "
                    f"{group.example!r}, got two; give the responses different `index` or `turn` values"
                )
            seen.add((slot, group.turn))
            owner = slots.setdefault(slot, len(slots))
            if owner == len(digests):
                digests.append([])
            digests[owner].append(fingerprint(group, response))
            row.score(response, prompt_end, start, owner)
    return _finish(row, tuple(slots), digests, tuple(examples))


def fingerprint(group: Group, response: Response) -> str:
    """Hash of everything a response's log-probability depends on besides the model (32 hex digits)."""
    digest = hashlib.sha256()
    for part in (group.prompt_ids, group.position_ids or (), response.token_ids, response.mask):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(array("q", part).tobytes())
    return digest.hexdigest()[:32]


def _lay_out(row: _Row, group: Group, example: int) -> Iterator[tuple[Slot, Response, int, int]]:
    """Append the group's pieces and segments; yield where each response starts in the row."""
    positions = group.position_ids or tuple(range(len(group.prompt_ids)))
    prompt_start = len(row.input_ids)
    prompt_end = prompt_start + len(group.prompt_ids) - 1
    prompt_piece = row.append(group.prompt_ids, positions)
    for number, response in enumerate(group.responses):
        start = len(row.input_ids)
        first = positions[-1] + 1
        piece = row.append(response.token_ids, range(first, first + len(response.token_ids)))
        queries = row.pieces[piece] + (0 if number else row.pieces[prompt_piece])
        row.segments.append(Segment(queries, (prompt_piece, piece)))
        yield Slot(example, group.context, response.role, response.index), response, start, prompt_end


def _finish(row: _Row, slots: tuple[Slot, ...], digests: list[list[str]], examples: tuple[str, ...]) -> PackedBatch:
    return PackedBatch(
        input_ids=torch.tensor([row.input_ids]),
        position_ids=torch.tensor([row.position_ids]),
        table=SegmentTable(tuple(row.pieces), tuple(row.segments)),
        score_index=torch.tensor(row.score_index),
        score_targets=torch.tensor(row.score_targets),
        score_owners=torch.tensor(row.score_owners),
        slots=slots,
        fingerprints=tuple(hashlib.sha256("".join(parts).encode()).hexdigest()[:32] for parts in digests),
        examples=examples,
    )


def _check(group: Group) -> None:
    name = f"record {group.example!r}, {group.context} context"
    if not group.prompt_ids:
        raise ValueError(f"{name}: expected at least one prompt token, got none; give the prompt a first token")
    if not group.responses:
        raise ValueError(f"{name}: expected at least one response, got none")
    positions = group.position_ids
    if positions is not None:
        if len(positions) != len(group.prompt_ids):
            raise ValueError(
                f"{name}: expected {len(group.prompt_ids)} position ids, one per prompt token, got {len(positions)}"
            )
        if any(after <= before for before, after in zip(positions, positions[1:], strict=False)):
            raise ValueError(f"{name}: expected strictly increasing position ids")
    for response in group.responses:
        _check_response(response, f"{name}, {response.role}[{response.index}]")


def _check_response(response: Response, name: str) -> None:
    if len(response.mask) != len(response.token_ids):
        raise ValueError(
            f"{name}: expected one mask entry per token ({len(response.token_ids)}), got {len(response.mask)}"
        )
    if not any(response.mask):
        raise ValueError(f"{name}: expected at least one scored token, got none; is the answer empty?")
