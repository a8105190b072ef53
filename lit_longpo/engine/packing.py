"""Packs groups into one row and its segment table: pure functions on the host, without model or kernel.

Layout of one group with k responses (| marks piece borders):

    prompt | response_0 | response_1 | ... | response_{k-1}

The *trunk* segment holds the queries of prompt and response_0 and sees both. Every further response
is a *branch*: its queries see the prompt and itself. Groups never see each other.

Groups whose prompts begin alike can hold that beginning together (`prompt_trie.py`):

    beginning | rest_0 | response_0 | response_1 | rest_1 | response_2 | ...

A segment then sees its own chain of pieces from the first token on, at the positions that it would have alone.
"""

import hashlib
import itertools
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from lit_longpo.batch import Group, PackedBatch, Response, Segment, SegmentTable, Sharing, Slot
from lit_longpo.engine.prompt_trie import TrieNode, positions_of, prompt_trie
from lit_longpo.errors import InputError


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

    def append(self, token_ids: Sequence[int], position_ids: Sequence[int]) -> "_Piece":
        piece = _Piece(len(self.pieces), range(len(self.input_ids), len(self.input_ids) + len(token_ids)))
        self.input_ids.extend(token_ids)
        self.position_ids.extend(position_ids)
        self.pieces.append(len(token_ids))
        return piece

    def score(self, response: Response, place: "_Place", owner: int, mask: Sequence[bool] | None = None) -> None:
        """Score the tokens under the mask: each is predicted by the token before it, the first by the prompt's last."""
        for offset, (token, scored) in enumerate(zip(response.token_ids, mask or response.mask, strict=True)):
            if scored:
                self._score(place.rows[offset - 1] if offset else place.prompt[-1].rows[-1], token, owner)

    def score_rest(self, group: Group, place: "_Place", owner: int) -> None:
        """Score the rest of the first response's sequence: the tokens of prompt and template.

        Not the first one of the prompt, which nothing predicts.
        """
        length, response = len(group.prompt_ids), group.responses[0]
        mask = group.sequence_mask or (True,) * (length + len(response.token_ids))
        rows = itertools.chain.from_iterable(piece.rows for piece in place.prompt)
        for row, token, counted in zip(rows, group.prompt_ids[1:], mask[1:length], strict=False):
            if counted:
                self._score(row, token, owner)
        # Answers have a slot of their own, whose sum `Scores.sequence_nll` adds: counted here, they would count twice.
        between = [counted and not scored for counted, scored in zip(mask[length:], response.mask, strict=True)]
        # The first response goes on from the prompt, so its tokens are predicted as any response's are.
        self.score(response, place, owner, between)

    def scored_tails(self) -> Iterator[int]:
        """Each segment's queries from the first one that is scored; segments divide the row in its order."""
        scored, end = sorted(self.score_index), 0
        for segment in self.segments:
            start, end = end, end + segment.query_length
            first = bisect_left(scored, start)
            yield end - scored[first] if first < len(scored) and scored[first] < end else 0

    def _score(self, index: int, target: int, owner: int) -> None:
        self.score_index.append(index)
        self.score_targets.append(target)
        self.score_owners.append(owner)


@dataclass(frozen=True)
class _Piece:
    """A piece's number, and where it lies in the row."""

    number: int
    rows: range


@dataclass(frozen=True)
class _Place:
    """Where a response lies in the row, and what it goes on from."""

    prompt: tuple[_Piece, ...]
    rows: range


@dataclass
class _Slots:
    """The slots whose sums are wanted so far, with the hashes of what each sum depends on."""

    numbers: dict[Slot, int] = field(default_factory=dict)
    digests: list[list[str]] = field(default_factory=list)
    _seen: set[tuple[Slot, int]] = field(default_factory=set)

    def add(self, slot: Slot, group: Group, digest: str) -> int:
        """The slot's number; every (slot, turn) may come once."""
        if (slot, group.turn) in self._seen:
            raise InputError(
                f"expected one {slot.context}.{slot.role}[{slot.index}] response per turn of record "
                f"{group.example!r}, got two; give the responses different `index` or `turn` values"
            )
        self._seen.add((slot, group.turn))
        number = self.numbers.setdefault(slot, len(self.numbers))
        if number == len(self.digests):
            self.digests.append([])
        self.digests[number].append(digest)
        return number

    def fingerprints(self) -> tuple[str, ...]:
        return tuple(hashlib.sha256("".join(parts).encode()).hexdigest()[:32] for parts in self.digests)


def pack(groups: Sequence[Group], *, shared_from: int | None = None) -> PackedBatch:
    """Lay groups side by side in one row.

    Args:
        groups: at least one group; several groups may belong to the same example.
        shared_from: groups whose prompts have so many first tokens in common, at the same positions, hold them once;
            `None` gives every group a prompt of its own. What is scored, and its order, are the same.

    Returns:
        The row, its segment table and what has to be scored.

    Raises:
        InputError: there is no group, or a group breaks a rule stated in `Group` and `Response`.
    """
    if not groups:
        raise InputError("expected at least one group to pack, got none; check the batch sampler's budget")
    for group in groups:
        _check(group)
    row, slots = _Row(), _Slots()
    layout = _Layout(row, groups, prompt_trie(groups, shared_from))
    examples = {name: number for number, name in enumerate(dict.fromkeys(group.example for group in groups))}
    scored = list[int]()
    for group, places in zip(groups, layout.places, strict=True):
        before = len(row.score_index)
        _score(row, slots, group, places, examples[group.example])
        scored.append(len(row.score_index) - before)
    return PackedBatch(
        input_ids=torch.tensor([row.input_ids]),
        position_ids=torch.tensor([row.position_ids]),
        table=SegmentTable(tuple(row.pieces), tuple(row.segments)),
        score_index=torch.tensor(row.score_index),
        score_targets=torch.tensor(row.score_targets),
        score_owners=torch.tensor(row.score_owners),
        slots=tuple(slots.numbers),
        fingerprints=slots.fingerprints(),
        examples=tuple(examples),
        leaps=any(group.position_ids is not None for group in groups),
        scored_tails=tuple(row.scored_tails()),
        sharing=layout.sharing(scored),
    )


def _score(row: _Row, slots: _Slots, group: Group, places: Sequence[_Place], example: int) -> None:
    """Add the scored tokens of a group that has been laid out."""
    for response, place in zip(group.responses, places, strict=True):
        slot = Slot(example, group.context, response.role, response.index)
        row.score(response, place, slots.add(slot, group, fingerprint(group, response)))
        if group.score_sequence and response is group.responses[0]:
            rest = slots.add(Slot(example, group.context, "rest", 0), group, "rest" + fingerprint(group, response))
            row.score_rest(group, place, rest)


def fingerprint(group: Group, response: Response) -> str:
    """Hash of everything a response's log-probability depends on besides the model (32 hex digits)."""
    digest = hashlib.sha256()
    longest = (max(len(other.token_ids) for other in group.responses),)  # decides length-dependent angles
    for part in (group.prompt_ids, group.position_ids or (), response.token_ids, response.mask, longest):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(array("q", part).tobytes())
    return digest.hexdigest()[:32]


class _Layout:
    """Pieces and segments of all groups."""

    def __init__(self, row: _Row, groups: Sequence[Group], trie: Sequence[TrieNode]) -> None:
        self._row, self._groups = row, groups
        self.places: list[list[_Place]] = [[] for _ in groups]
        self._owners = list[int]()
        for node in trie:
            self._lay_out(node, (), 0)

    def sharing(self, scored: Sequence[int]) -> Sharing | None:
        """Which groups own which segments; `None` if no two groups share a piece."""
        held = sum(group.num_tokens for group in self._groups)
        if held == len(self._row.input_ids):
            return None
        tails = tuple(_first_tail(group) for group in self._groups)
        return Sharing(tuple(self._owners), tuple(scored), tails, held)

    def _lay_out(self, node: TrieNode, chain: tuple[_Piece, ...], waiting: int) -> None:
        """A node and what follows it; what comes first continues the segment that the waiting queries are part of."""
        first = self._groups[node.first]
        piece = self._row.append(
            first.prompt_ids[node.start : node.stop], tuple(positions_of(first)[node.start : node.stop])
        )
        chain, waiting = (*chain, piece), waiting + len(piece.rows)
        for child in node.children:
            if isinstance(child, TrieNode):
                self._lay_out(child, chain, waiting)
            else:
                self._answer(child, chain, waiting)
            waiting = 0

    def _answer(self, number: int, chain: tuple[_Piece, ...], waiting: int) -> None:
        """A group's responses. The queries of its prompt go with the first one, so that they are computed once."""
        group = self._groups[number]
        # Every response continues the prompt, as if it were the only one, and not the response before it in the row.
        first = positions_of(group)[-1] + 1
        for response in group.responses:
            piece = self._row.append(response.token_ids, range(first, first + len(response.token_ids)))
            # Keys: the prompt and the response itself; other responses are never among them.
            keys = (*(one.number for one in chain), piece.number)
            self._row.segments.append(Segment(waiting + len(piece.rows), keys))
            self._owners.append(number)
            self.places[number].append(_Place(chain, piece.rows))
            waiting = 0


def _first_tail(group: Group) -> int:
    """Of prompt and first response, how many last tokens hold all that predict a scored one, or more."""
    response = group.responses[0]
    if group.score_sequence:
        return len(group.prompt_ids) + len(response.token_ids)
    # The prompt's last token predicts the first one of every response.
    first = 0 if any(other.mask[0] for other in group.responses) else response.mask.index(True)
    return len(response.token_ids) + 1 - first


def _check(group: Group) -> None:
    name = f"record {group.example!r}, {group.context} context"
    if not group.prompt_ids:
        raise InputError(f"{name}: expected at least one prompt token, got none; give the prompt a first token")
    if not group.responses:
        raise InputError(f"{name}: expected at least one response, got none")
    positions = group.position_ids
    if positions is not None:
        if len(positions) != len(group.prompt_ids):
            raise InputError(
                f"{name}: expected {len(group.prompt_ids)} position ids, one per prompt token, got {len(positions)}"
            )
        if any(after <= before for before, after in itertools.pairwise(positions)):
            raise InputError(f"{name}: expected strictly increasing position ids")
    if group.score_sequence and group.responses[0].role != "chosen":
        raise InputError(f"{name}: expected the chosen response first to score the sequence, got a rejected one")
    total = len(group.prompt_ids) + len(group.responses[0].token_ids)
    if group.sequence_mask is not None and len(group.sequence_mask) != total:
        raise InputError(
            f"{name}: expected {total} entries in the sequence mask, one per token of prompt and chosen response, "
            f"got {len(group.sequence_mask)}"
        )
    for response in group.responses:
        _check_response(response, f"{name}, {response.role}[{response.index}]")


def _check_response(response: Response, name: str) -> None:
    if len(response.mask) != len(response.token_ids):
        raise InputError(
            f"{name}: expected one mask entry per token ({len(response.token_ids)}), got {len(response.mask)}"
        )
    if not any(response.mask):
        raise InputError(f"{name}: expected at least one scored token, got none; is the answer empty?")
