from types import SimpleNamespace

import pytest
import torch

from lit_longpo.callbacks import HostMemory, host_memory

CPU = SimpleNamespace(device=torch.device("cpu"))
MIB = 2**20


@pytest.fixture
def released(monkeypatch):
    calls = []
    monkeypatch.setattr(host_memory, "release_free_memory", lambda: calls.append(1))
    return calls


def steps(monkeypatch, sizes, module=CPU, accumulate=1):
    callback, trainer = HostMemory(), SimpleNamespace(global_step=0)
    callback.on_train_start(trainer, module)
    for number, size in enumerate(sizes, start=1):
        monkeypatch.setattr(host_memory, "resident_bytes", lambda size=size: size)
        trainer.global_step = number // accumulate
        callback.on_train_batch_end(trainer, module, None, None, 0)


@pytest.mark.parametrize(
    ("sizes", "count"),
    [([100, 124, 125, 110], 0), ([100, 126], 1), ([100, 126, 200, 200], 1), ([100, 126, 100, 126], 2), ([None] * 3, 0)],
    ids=["usual", "grown", "longer rows", "again", "unknown"],
)
def test_memory_is_given_back_on_growth_only(sizes, count, released, monkeypatch):
    steps(monkeypatch, sizes)
    assert len(released) == count


def test_between_two_rows_of_a_step_and_on_a_gpu_nothing_is_done(released, monkeypatch):
    steps(monkeypatch, [100, 100, 300], accumulate=2)
    steps(monkeypatch, [100, 300], SimpleNamespace(device=torch.device("meta")))
    assert released == []


@pytest.mark.skipif(host_memory.resident_bytes() is None, reason="not on Linux")
def test_holes_between_tensors_are_given_back():
    large = torch.ones(24 * MIB // 4)  # once freed, glibc takes smaller tensors from its heap
    del large
    tensors = [torch.ones(size) for _ in range(40) for size in (1024, MIB)]  # 4 KiB and 4 MiB
    before = host_memory.resident_bytes()
    kept = tensors[::2]
    del tensors
    host_memory.release_free_memory()
    assert before - host_memory.resident_bytes() > 120 * MIB
    assert all(tensor.sum() == 1024 for tensor in kept)
