"""Ulysses a few heads at a time: exchanged, attended, sent back, before the next ones come.

`sequence_parallel.py` trades this rank's tokens of all heads for the whole row of its heads. At once, that is a second
copy of queries, keys and values, and two more on their way (what is sent, and what has come, in another order);
backward has the same of their gradients. Here only a chunk of the heads is on its way, so that one copy is left: this
rank's tokens, or (for backward) what the chunks have brought. Heads do not know each other, so nothing else changes.

With U bytes of a rank's queries, K of its keys and values and n chunks, beside what the model itself holds:

| | at once | in chunks |
| --- | --- | --- |
| forward, without gradients | (U + K) + 2 U on its way | (U + K) / n + 2 U / n |
| backward | (U + K) kept, (U + K) of gradients, 2 U on its way | (U + K) kept or given back, 3 (U + K) / n |

A chunk is kept for backward as it came: to send it once more there would cost an attention for the same bytes, since
a rank's own heads would have to be kept in its place.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Literal

import torch
from torch import Tensor

from lit_longpo.engine.ulysses.sequence_parallel import SequenceRanks
from lit_longpo.errors import InputError

HeadChunks = Literal["auto"] | int
# Of queries that one rank receives: every pair of ranks still exchanges some MiB at once, which networks do quickly.
CHUNK_BYTES = 256 * 2**20

Attend = Callable[[Tensor, Tensor, Tensor, dict[Any, Any]], Tensor]


def num_chunks(wanted: HeadChunks, heads: int, readers: int, row_bytes: int) -> int:
    """Into how many chunks a rank's query heads are dealt.

    Args:
        wanted: a number; "auto" takes as few as make a chunk 256 MiB or less.
        heads: query heads of a rank.
        readers: query heads that read one key head: a chunk is some whole groups of them, or a part of one.
        row_bytes: of the queries of all those heads, over the whole row.

    Raises:
        InputError: heads cannot be dealt into so many.
    """
    sizes = [size for size in range(heads, 0, -1) if heads % size == 0 and (size % readers == 0 or readers % size == 0)]
    possible = [heads // size for size in sizes]
    if wanted == "auto":
        return next((number for number in possible if row_bytes <= number * CHUNK_BYTES), heads)
    if wanted not in possible:
        raise InputError(
            f"expected `trainer.strategy.init_args.head_chunks` to be auto or one of {possible}, got {wanted}: every "
            f"rank has {heads} query heads, {readers} to a key head"
        )
    return wanted


def attend_in_chunks(
    ranks: SequenceRanks, query: Tensor, key: Tensor, value: Tensor, extra: dict[Any, Any], attend: Attend
) -> Tensor:
    """Attention of this rank's tokens, every rank with its heads.

    Args:
        ranks: who share the row.
        query: Shape: (1, H, t, D).
        key: Shape: (1, G, t, D).
        value: Shape: (1, G, t, D).
        extra: of a layer whose sinks, one for each of a rank's heads, go with these.
        attend: (query, key, value, extra) of some heads over the whole row -> Shape: (1, T, heads, D).

    Returns:
        Shape: (1, t, H, D).
    """
    heads = query.shape[1] // ranks.size
    readers = query.shape[1] // max(key.shape[1], ranks.size)
    chunks = 1 if ranks.size == 1 else num_chunks(ranks.head_chunks, heads, readers, query.nbytes)
    if chunks == 1:
        query, key, value = (ranks.to_heads(tensor) for tensor in (query, key, value))
        return ranks.to_tokens(attend(query, key, value, extra))
    size = heads // chunks
    output = query.new_empty(1, query.shape[2], ranks.size, heads, value.shape[3])
    for number, (queries, keys, values) in enumerate(_chunks(ranks, query, key, value, size)):
        own = extra | {name: part[number * size :][:size] for name, part in extra.items() if name == "sinks"}
        part = ranks.to_tokens(attend(queries, keys, values, own))
        output = _Place.apply(output, part.unflatten(2, (ranks.size, size)), number * size)
    return output.flatten(2, 3)


def _chunks(
    ranks: SequenceRanks, query: Tensor, key: Tensor, value: Tensor, size: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """So many of a rank's query heads at a time, with the keys and values that they read."""
    key, value = (ranks.replicated(tensor) for tensor in (key, value))
    readers = query.shape[1] // key.shape[1]
    together = max(1, size // readers)  # key heads of a chunk; or one serves several chunks
    queries = _dealt(ranks, query, size)
    for keys, values in zip(_dealt(ranks, key, together), _dealt(ranks, value, together), strict=True):
        received = ranks.to_heads(keys), ranks.to_heads(values)
        for part in islice(queries, max(1, readers // size)):
            yield ranks.to_heads(part), *received


class _Place(torch.autograd.Function):
    """Writes a chunk's heads to their place. Each is written once, so that gradients pass as they are, uncopied."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, part: Tensor, first: int) -> Tensor:
        ctx.first, ctx.size = first, part.shape[3]
        whole.narrow(3, first, part.shape[3]).copy_(part)
        ctx.mark_dirty(whole)
        return whole

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        return grads[0], grads[0].narrow(3, ctx.first, ctx.size), None


def _dealt(ranks: SequenceRanks, tensor: Tensor, size: int) -> Iterator[Tensor]:
    """So many heads of every rank at a time. Shape of each: (1, R * size, t, D).

    By `split`, whose backward puts the parts' gradients together once; slices would each make a whole row of zeros.
    """
    for part in tensor.unflatten(1, (ranks.size, -1)).split(size, dim=2):
        yield part.flatten(1, 2)
