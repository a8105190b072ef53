"""Rows are dealt to the processes once."""

from collections import Counter
from itertools import chain
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DistributedSampler

from data_modules.pretraining import WorldTextDataModule
from data_modules.rows.dealing.dealer import DealtRows, RowDealer, ranks_of
from data_modules.rows.dealing.sampling import TokenBudgetBatchSampler
from lit_longpo.log_once import log_once
from lit_longpo.policy import PolicyConfig


class Rows(list):
    """Examples that fill a row each."""

    names = shares = sources = None

    @property
    def lengths(self):
        return [8] * len(self)


QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}


def test_lightning_is_not_to_deal_them_too():
    """It would look for a sampler of torch's inside of ours, and say so in many lines."""
    with pytest.raises(ValueError, match=r"expected `trainer\.use_distributed_sampler: false`.*got true; leave it out"):
        ranks_of(Trainer(accelerator="cpu", strategy="ddp", **QUIET))
    alone = {"num_replicas": 1, "rank": 0}
    assert ranks_of(Trainer(accelerator="cpu", strategy="ddp", use_distributed_sampler=False, **QUIET)) == alone
    assert ranks_of(Trainer(accelerator="cpu", **QUIET)) == alone  # one process has all rows
    assert ranks_of(None) == alone


@pytest.mark.parametrize("split", ["train", "val"])
def test_made_up_texts_are_shared_out(split):
    """Every process would train on all of them, which is as many times the same step."""
    data = WorldTextDataModule(num_train=12, num_val=12, batch_size=2, prompt_format=PolicyConfig().prompt_format())
    names = []
    for rank in range(2):
        data.trainer = SimpleNamespace(distributed_sampler_kwargs={"num_replicas": 2, "rank": rank})
        loader = data.train_dataloader() if split == "train" else data.val_dataloader()
        assert len(loader) == 3
        names += [name for batch in loader for name in batch.policy.examples]
    assert sorted(names) == sorted(f"{split}-{number}" for number in range(12))


@pytest.mark.parametrize(("limit", "told"), [(4, False), (0.8, False), (5, True), (1.0, True), (6, True)])
def test_repeated_rows_that_an_epoch_does_not_reach_are_not_told(limit, told, caplog):
    """Nine rows are five for each of two ranks, the last of them another one once more."""
    trainer = SimpleNamespace(
        distributed_sampler_kwargs={"num_replicas": 2, "rank": 1},
        limit_train_batches=limit,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )
    log_once.cache_clear()
    RowDealer(8, 1, None, True, seed=0, num_workers=0).loader("train", Rows([None] * 9), trainer, shuffle=True)
    assert ("repeat others" in caplog.text) == told


@pytest.mark.parametrize(("rows", "ranks", "again"), [(3, 2, 1), (9, 8, 7), (101, 2, 0), (8, 8, 0)])
def test_rows_that_ranks_repeat_are_told(rows, ranks, again, caplog):
    """As torch's DistributedSampler deals them, and as often; nothing said that 7 of 16 rows were others once more."""
    dealer = RowDealer(8, 1, None, True, seed=0, num_workers=0)
    counts = Counter()
    for rank in range(ranks):
        trainer = SimpleNamespace(
            distributed_sampler_kwargs={"num_replicas": ranks, "rank": rank},
            strategy=SimpleNamespace(root_device=torch.device("cpu")),
        )
        loader = dealer.loader("train", Rows([None] * rows), trainer, shuffle=True)
        counts.update(number for [number] in loader.batch_sampler)
    plain = [list(DistributedSampler(range(rows), ranks, rank)) for rank in range(ranks)]
    assert sorted(counts.values()) == sorted(Counter(chain(*plain)).values())
    told = [each.message for each in caplog.records if "repeat others" in each.message]
    assert [f"{again} of the {rows + again} rows" in each for each in told] == [True] * (again > 0)


def test_examples_that_come_again_are_trained_on_once():
    rows = DealtRows(TokenBudgetBatchSampler([1] * 4, 2), range(4))
    assert [rows.num_trained(counts) for counts in ({}, {0: 1}, {0: 1, 1: 1}, {0: 2, 1: 1})] == [0, 2, 2, 4]
