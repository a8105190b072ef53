"""One cache for several rows that begin alike and go on differently: keys and values move behind each row's padding."""

import copy
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Cache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer


def spreads(cache: Cache | None, pads: Sequence[int]) -> bool:
    """Whether rows can go on from a cache together.

    Args:
        cache: of what all rows begin with; `None` holds nothing.
        pads: of each row, how much shorter it is than the longest. A window has forgotten what a shorter row would
            have to see in place of its padding, so that such rows have to be of one length.
    """
    if cache is None or len(pads) < 2:
        return len(pads) < 2
    kinds = {type(layer) for layer in cache.layers}  # no subclass: those keep more than keys and values
    known = {DynamicLayer, DynamicSlidingWindowLayer} if not any(pads) else {DynamicLayer}
    return kinds <= known and max(pads) < cache.get_seq_length()


def spread(cache: Cache, pads: Sequence[int]) -> Cache:
    """The cache of rows that are padded on the left to one width, as far as all of it is known.

    Of a row with p tokens of padding the last p cached tokens fall away: they are read again with what follows.

    Args:
        cache: of one row; it stays as it is.
        pads: as for `spreads`, which has to hold.
    """
    rows = copy.deepcopy(cache)
    for layer in cast(list[DynamicLayer], rows.layers):
        if any(pads):
            layer.keys, layer.values = _moved(layer.keys, pads), _moved(layer.values, pads)
        else:
            layer.batch_repeat_interleave(len(pads))
    return rows


def _moved(states: Tensor | None, pads: Sequence[int]) -> Tensor | None:
    """(1, num_heads, num_tokens, head_dim) -> (num_rows, num_heads, num_tokens, head_dim), zeros on the left."""
    if states is None:
        return None
    length = states.shape[2]
    return torch.cat([functional.pad(states[:, :, : length - pad], (0, 0, pad, 0)) for pad in pads])
