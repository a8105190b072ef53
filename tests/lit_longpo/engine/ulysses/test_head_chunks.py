"""Heads exchanged a few at a time: into which parts, and what is alive; two real ranks: `test_sequence_parallel.py`."""

import pytest
import torch
from support.tiny_models import tiny_config
from torch import distributed
from torch.testing._internal.distributed.fake_pg import FakeStore

from lit_longpo.batch import Segment, SegmentTable
from lit_longpo.engine import check_heads
from lit_longpo.engine.backends.sdpa import sdpa_attention
from lit_longpo.engine.ulysses import sequence_parallel
from lit_longpo.engine.ulysses.head_chunks import CHUNK_BYTES, attend_in_chunks, num_chunks
from lit_longpo.engine.ulysses.sequence_parallel import SequenceRanks
from lit_longpo.live_bytes import LiveBytes

RANKS, TOKENS = 4, 1024


@pytest.mark.parametrize(
    ("wanted", "heads", "readers", "row_bytes", "expected"),
    [
        (2, 8, 4, 0, 2),
        (8, 8, 4, 0, 8),
        ("auto", 8, 4, CHUNK_BYTES, 1),
        ("auto", 8, 4, CHUNK_BYTES + 1, 2),
        ("auto", 8, 4, 100 * CHUNK_BYTES, 8),
        ("auto", 6, 3, 2.5 * CHUNK_BYTES, 6),  # 3 chunks would read one key head and a part of the next
        (1, 7, 7, 0, 1),
    ],
)
def test_chunks_are_whole_groups_or_parts_of_one(wanted, heads, readers, row_bytes, expected):
    assert num_chunks(wanted, heads, readers, row_bytes) == expected


def test_other_numbers_are_refused_before_weights_are_read(monkeypatch):
    monkeypatch.setattr(sequence_parallel, "_ranks", SequenceRanks(size=2, head_chunks=3))
    message = r"head_chunks` to be auto or one of \[1, 2\], got 3: every rank has 2 query heads, 2 to a key head"
    with pytest.raises(ValueError, match=message):
        check_heads(lambda: tiny_config("Llama"))
    monkeypatch.setattr(sequence_parallel, "_ranks", SequenceRanks(size=2, head_chunks=2))
    check_heads(lambda: tiny_config("Llama"))


@pytest.fixture
def group():
    """Four ranks, of which only this one is there: what it sends comes to nobody."""
    distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=RANKS)
    yield distributed.group.WORLD
    distributed.destroy_process_group()


def peaks(group, chunks):
    """Bytes beside queries, keys and values, of a forward alone and of one with backward, in units of the queries."""
    table = SegmentTable((TOKENS,), (Segment(TOKENS, (0,)),))
    ranks = SequenceRanks(RANKS, 0, group, chunks)
    found = []
    for grad in (False, True):
        parts = [torch.randn(1, heads, TOKENS // RANKS, 16, requires_grad=grad) for heads in (32, 16, 16)]

        def attend(query, key, value, extra):
            return sdpa_attention(query, key, value, table, None, None)

        with LiveBytes() as memory, torch.set_grad_enabled(grad):
            output = attend_in_chunks(ranks, *parts, {}, attend)
            if grad:
                output.sum().backward()
        assert output.shape == (1, TOKENS // RANKS, 32, 16)
        found.append(memory.peak / parts[0].nbytes - 2)
        del output
    return found


def test_chunks_take_less_memory_forward_and_backward(group):
    """Backward needs chunks (2), what they gave (1) and what was sent back (1); at once, 3 more are on their way."""
    at_once, in_chunks = peaks(group, 1), peaks(group, 8)
    assert at_once == pytest.approx([5, 7], abs=0.1)
    assert in_chunks[0] < 2.2
    assert in_chunks[1] < 4.8
