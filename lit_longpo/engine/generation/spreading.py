"""Makes caches of rows that are padded on the left out of caches that were computed without padding.

One cache for several rows that begin alike and go on differently (`spread`), or of each row its own (`joined`): keys
and values move behind the row's padding, so that padding is never computed.
"""

import copy
from collections.abc import Callable, Sequence
from typing import cast

from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from lit_longpo.engine.generation.growing import BLOCK, GrowingLayer, right_aligned

KeysValues = tuple[Tensor, Tensor]
_PLAIN = frozenset({DynamicLayer, DynamicSlidingWindowLayer})  # no subclass: those keep more than keys and values


def movable(cache: Cache) -> bool:
    """Whether a cache holds keys and values and nothing else."""
    return bool(cache.layers) and {type(layer) for layer in cache.layers} <= _PLAIN


def spreads(cache: Cache | None, pads: Sequence[int]) -> bool:
    """Whether rows can go on from a cache together.

    Args:
        cache: of what all rows begin with; `None` holds nothing.
        pads: of each row, how much shorter it is than the longest. A window has forgotten what a shorter row would
            have to see in place of its padding, so that such rows have to be of one length.
    """
    if cache is None or len(pads) < 2:
        return len(pads) < 2
    known = _PLAIN if not any(pads) else {DynamicLayer}
    return {type(layer) for layer in cache.layers} <= known and max(pads) < cache.get_seq_length()


def spread(cache: Cache, pads: Sequence[int]) -> Cache:
    """One cache repeated for several rows of different lengths, padded on the left to one width.

    Of a row with p tokens of padding the last p cached tokens fall away: they are read again with what follows.

    Args:
        cache: of one row; it stays as it is.
        pads: as for `spreads`, which has to hold.
    """
    if not movable(cache):
        return copy.deepcopy(cache)

    def rows(layers: Sequence[DynamicLayer]) -> list[KeysValues]:
        keys, values = cast(KeysValues, (layers[0].keys, layers[0].values))
        length = keys.shape[2]
        return [(keys[:, :, : length - pad], values[:, :, : length - pad]) for pad in pads]

    return _moved([copy.copy(cache)], rows)


def joined(caches: Sequence[Cache], places: Sequence[tuple[int, int, int] | None]) -> Cache:
    """One cache of rows that end in the same column; it consumes the given caches, so that memory stays flat.

    Args:
        caches: at least one, all `movable`, the longest first.
        places: of each row: cache, row there, and how many of its last tokens; `None` is a row without any.
    """

    def rows(layers: Sequence[DynamicLayer]) -> list[KeysValues]:
        return [_last(layers[place[0]], *place[1:]) if place else _last(layers[0], 0, 0) for place in places]

    return _moved(caches, rows)


def _moved(caches: Sequence[Cache], rows: Callable[[Sequence[DynamicLayer]], list[KeysValues]]) -> Cache:
    """The first cache with new rows in each layer."""
    first = caches[0]
    first.layers = list(first.layers)  # where others hold the old list, that stays
    for number in range(len(first.layers)):
        layers = cast(list[DynamicLayer], [cache.layers[number] for cache in caches])
        if layers[0].is_initialized:  # others take their keys from a layer before
            first.layers[number] = _layer(layers[0], rows(layers))
        for cache in caches[1:]:
            cache.layers[number] = first.layers[number]  # its own is not needed any more
    return first


def _layer(like: DynamicLayer, rows: list[KeysValues]) -> DynamicLayer:
    """Rows in a layer of the same kind; a window keeps few tokens, so that copying them is cheap."""
    width = cast(Tensor, like.keys).shape[2]
    windowed = isinstance(like, DynamicSlidingWindowLayer)
    keys, values = (right_aligned(states, width, 0 if windowed else BLOCK) for states in zip(*rows, strict=True))
    if not windowed:
        return GrowingLayer((keys, values), width)
    window = copy.copy(like)
    window.keys, window.values = keys, values
    return window


def _last(layer: DynamicLayer, row: int, count: int) -> KeysValues:
    """The last tokens of a row, as many as a window has kept of them."""
    keys, values = cast(KeysValues, (layer.keys, layer.values))
    start = max(keys.shape[2] - count, 0)
    return keys[row : row + 1, :, start:], values[row : row + 1, :, start:]
