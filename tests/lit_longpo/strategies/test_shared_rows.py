"""Which ranks share rows; `test_parity.py` trains with them."""

import pytest
import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import DDPStrategy

from data_modules.rows.dealing.sampling import TokenBudgetBatchSampler
from lit_longpo.engine import sequence_ranks
from lit_longpo.engine.ulysses import sequence_parallel
from lit_longpo.engine.ulysses.sequence_parallel import SequenceRanks
from lit_longpo.strategies import AnyDeviceDeepSpeedStrategy, SequenceParallelDDPStrategy, shared_rows
from lit_longpo.strategies.shared_rows import form_groups, row_ranks


def test_ranks_of_a_group_get_the_same_rows_and_groups_different_ones():
    rows = [TokenBudgetBatchSampler([4] * 7, 8, **row_ranks(2, 6, rank)).batches(0) for rank in range(6)]
    assert rows[0::2] == rows[1::2]
    assert len({str(part) for part in rows}) == 3
    assert {index for part in rows for row in part for index in row} == set(range(7))


@pytest.mark.parametrize("strategy", [AnyDeviceDeepSpeedStrategy, SequenceParallelDDPStrategy])
def test_strategies_tell_samplers(strategy, monkeypatch):
    if strategy is AnyDeviceDeepSpeedStrategy:
        pytest.importorskip("deepspeed", reason='needs pip install "lit_longpo[deepspeed]"')
    made = strategy(sequence_parallel=4)
    monkeypatch.setattr(strategy, "world_size", 8)
    monkeypatch.setattr(strategy, "global_rank", 5)
    assert made.distributed_sampler_kwargs == {"num_replicas": 2, "rank": 1}


@pytest.mark.parametrize(("degree", "world_size"), [(2, 1), (2, 3), (3, 4), (0, 4), (-2, 4)])
def test_ranks_that_form_no_whole_groups_are_refused(degree, world_size):
    with pytest.raises(ValueError, match=rf"divide the {world_size} processes .* got {degree}; set `trainer.devices`"):
        form_groups(degree, world_size, torch.device("cpu"))


def test_a_degree_of_one_shares_nothing(monkeypatch):
    monkeypatch.setattr(sequence_parallel, "_ranks", SequenceRanks(size=2))
    form_groups(1, 4, torch.device("cpu"))
    assert sequence_ranks() == SequenceRanks()


class Mesh:
    """Of eight ranks, four to a row; one's group."""

    def __getitem__(self, name):
        return self

    def get_group(self):
        return self

    def size(self):
        return 4

    def rank(self):
        return 1


@pytest.mark.parametrize("strategy", [AnyDeviceDeepSpeedStrategy, SequenceParallelDDPStrategy])
def test_ranks_exchange_heads_in_the_parts_that_are_asked_for(strategy, monkeypatch):
    if strategy is AnyDeviceDeepSpeedStrategy:
        pytest.importorskip("deepspeed", reason='needs pip install "lit_longpo[deepspeed]"')
    monkeypatch.setattr(sequence_parallel, "_ranks", SequenceRanks())
    monkeypatch.setattr(DDPStrategy, "setup_environment", lambda strategy: None)
    monkeypatch.setattr(shared_rows, "init_device_mesh", lambda *_, **__: Mesh())
    monkeypatch.setattr(strategy, "world_size", 8)
    monkeypatch.setattr(strategy, "root_device", torch.device("cpu"))
    for options, expected in (({}, "auto"), ({"head_chunks": 2}, 2)):
        strategy(accelerator=CPUAccelerator(), sequence_parallel=4, **options).setup_environment()
        assert (sequence_ranks().size, sequence_ranks().head_chunks) == (4, expected)
