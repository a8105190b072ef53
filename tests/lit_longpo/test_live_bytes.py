"""Bytes of living tensors, beside torch's own sizes."""

import torch

from lit_longpo.live_bytes import LiveBytes


def test_live_bytes_counts_storages_once_and_until_they_die():
    with LiveBytes() as memory:
        first = torch.zeros(256)
        view = first.view(16, 16)
        assert (memory.live, memory.peak) == (1024, 1024)
        second = first + 1
        del first
        assert memory.live == 2048  # the view holds it
        del view, second
        assert (memory.live, memory.restart()) == (0, 2048)
        assert memory.peak == 0
