"""Takes rows apart whose groups share the beginning of their prompts, for models that cannot share it.

Sharing is exact if a token depends on the tokens before it and on nothing else. Some rotary angles also depend on the
length of the sequence, and some models are run one sequence at a time. For these every group gets a prompt of its own
again; scored tokens keep their order. The row is then as long as it would have been without sharing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, chain

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from lit_longpo.batch import PackedBatch, Segment, SegmentTable, Sharing, tensor_on
from lit_longpo.engine.decoder import decoder_of
from lit_longpo.engine.rotary import LENGTH_DEPENDENT, depends_on_length, rotary_embedding
from lit_longpo.engine.sequential.sequences import scores_sequentially

_PROBLEM = "_no_sharing_because"
_ANGLES = "its rotary angles depend on how long a sequence is"


def refuse_sharing(model: PreTrainedModel, cause: str | None) -> None:
    """From now on take this model's rows apart for this cause; `None` leaves them as they are."""
    setattr(model, _PROBLEM, cause)


def sharing_problem(model: PreTrainedModel) -> str | None:
    """Why groups of a row cannot share tokens under this model; `None` if they can."""
    if scores_sequentially(model):
        return "it is scored one sequence at a time"
    if depends_on_length(rotary_embedding(decoder_of(model))):
        return _ANGLES
    cause: str | None = getattr(model, _PROBLEM, None)
    return cause


def sharing_rule(config: PretrainedConfig) -> str | None:
    """Why a model cannot share, judged by its configuration alone; `None` if it says nothing against it."""
    parameters = getattr(config.get_text_config(), "rope_parameters", None) or {}
    kinds = [part.get("rope_type") for part in (parameters, *parameters.values()) if isinstance(part, dict)]
    return _ANGLES if LENGTH_DEPENDENT & {kind for kind in kinds if isinstance(kind, str)} else None


def sharing_message(name: str, cause: str) -> str:
    """The error message for `share_prompts: together`, whose rows only fit because prompts are shared."""
    return (
        f"expected a model whose prompts can share their beginnings for `share_prompts: together`, got {name}: "
        f"{cause}, so rows would be longer than `max_tokens`; type --data.init_args.share_prompts auto"
    )


def row_for(model: PreTrainedModel, batch: PackedBatch) -> PackedBatch:
    """The row as a model can compute it: itself, or every group with a prompt of its own."""
    return batch if batch.sharing is None or sharing_problem(model) is None else taken_apart(batch, batch.sharing)


def taken_apart(batch: PackedBatch, sharing: Sharing) -> PackedBatch:
    """The row that `pack` makes of the same groups where they share nothing."""
    pieces, groups = batch.table.pieces, _groups(batch.table, sharing)
    device, starts = batch.input_ids.device, [0, *accumulate(pieces)]
    rows = list(chain.from_iterable(range(starts[p], starts[p + 1]) for p in chain.from_iterable(groups)))
    index = tensor_on(device, rows, torch.int64)
    table, tails = _table(batch, sharing, groups)
    return replace(
        batch,
        input_ids=batch.input_ids.index_select(1, index),
        position_ids=batch.position_ids.index_select(1, index),
        table=table,
        score_index=_moved(batch.score_index, sharing, groups, pieces),
        scored_tails=tails,
        sharing=None,
    )


def copies_of(batch: PackedBatch) -> Tensor | None:
    """How many groups hold each token of a row; `None` if none is shared. Shape: (T,)."""
    if batch.sharing is None:
        return None
    counts = [0] * len(batch.table.pieces)
    for piece in chain.from_iterable(_groups(batch.table, batch.sharing)):
        counts[piece] += 1
    tokens = list(chain.from_iterable([count] * size for count, size in zip(counts, batch.table.pieces, strict=True)))
    return tensor_on(batch.input_ids.device, tokens, torch.float32)


def _groups(table: SegmentTable, sharing: Sharing) -> list[list[int]]:
    """Of each group the pieces of its prompt, and those of its responses."""
    groups: list[list[int]] = [[] for _ in sharing.scored]
    for segment, owner in zip(table.segments, sharing.groups, strict=True):
        groups[owner] += segment.key_pieces[-1:] if groups[owner] else segment.key_pieces
    return groups


def _table(
    batch: PackedBatch, sharing: Sharing, groups: Sequence[Sequence[int]]
) -> tuple[SegmentTable, tuple[int, ...]]:
    """Of the row taken apart, and the last queries of each segment that hold all scored ones."""
    own_tails: list[list[int]] = [[] for _ in groups]
    for owner, tail in zip(sharing.groups, batch.scored_tails, strict=True):
        own_tails[owner].append(tail)
    pieces, segments, tails = list[int](), list[Segment](), list[int]()
    for number, group in enumerate(groups):
        count = len(own_tails[number])
        prompt, responses = group[: len(group) - count], group[len(group) - count :]
        sizes = [sum(batch.table.pieces[p] for p in prompt), *(batch.table.pieces[p] for p in responses)]
        first = len(pieces)
        pieces += sizes
        segments.append(Segment(sizes[0] + sizes[1], (first, first + 1)))
        segments += [Segment(size, (first, first + n)) for n, size in enumerate(sizes[2:], start=2)]
        tails += [sharing.first_tails[number], *own_tails[number][1:]]
    return SegmentTable(tuple(pieces), tuple(segments)), tuple(tails)


def _moved(index: Tensor, sharing: Sharing, groups: Sequence[Sequence[int]], pieces: Sequence[int]) -> Tensor:
    """Row positions where each group has its tokens for itself. Nothing is read from a GPU. Shape: (N,)."""
    starts, shifts = [0, *accumulate(pieces)], list[list[int]]()
    for group, first in zip(groups, _firsts(groups, pieces), strict=True):
        ends = accumulate((pieces[p] for p in group), initial=first)
        places = dict(zip(group, ends, strict=False))
        shifts.append([places.get(piece, 0) - starts[piece] for piece in range(len(pieces))])
    owners = [number for number, count in enumerate(sharing.scored) for _ in range(count)]
    borders = tensor_on(index.device, starts[1:], torch.int64)
    piece = torch.bucketize(index, borders, right=True)
    by_group = tensor_on(index.device, list(chain.from_iterable(shifts)), torch.int64).view(len(groups), -1)
    return index + by_group[tensor_on(index.device, owners, torch.int64), piece]


def _firsts(groups: Sequence[Sequence[int]], pieces: Sequence[int]) -> Iterator[int]:
    """Where each group begins in a row of whole groups."""
    first = 0
    for group in groups:
        yield first
        first += sum(pieces[piece] for piece in group)
