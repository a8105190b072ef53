"""Attention with a window as far as memory goes: of many equal blocks of queries one is run and counted for the rest.

torch's attention serves such layers in blocks as long as the window (`engine/backends/sdpa.py`): hundreds in a traced
row. Forward's peak is in the last of them and backward's in those that it comes to first, so these are run as they are.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from unittest.mock import patch

from torch import Tensor

from lit_longpo.engine.backends import sdpa
from lit_longpo.engine.backends.sdpa import Block
from lit_longpo.live_bytes import LiveBytes

_LAST = 4  # blocks that are run as they are; backward's sums of gradients are there from the second one on


def planned_windows(memory: LiveBytes) -> AbstractContextManager[object]:
    """Inside the block, forward and backward, layers with a window run few of their blocks."""
    every = sdpa.outputs_of

    def few(blocks: Sequence[Block], attend: Callable[[Block], Tensor]) -> list[Tensor]:
        first, middle, last = blocks[:1], blocks[1:-_LAST], blocks[-_LAST:]
        if len(middle) < 2:
            return every(blocks, attend)
        outputs = every(first, attend)
        with memory.repeated(len(middle)):
            one = attend(middle[-1])
        queries = sum(block.queries.stop - block.queries.start for block in middle)
        return [*outputs, one[:, :, :1].expand(-1, -1, queries, -1), *every(last, attend)]

    return patch.object(sdpa, "outputs_of", few)
