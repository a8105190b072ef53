"""Callbacks that wait for a metric which never comes are refused before hours have gone by."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from support.preference_data import RandomPairs

from lit_longpo.checkpoints import ResumableTrainer
from lit_longpo.errors import InputError
from lit_longpo.objectives import SFT
from lit_longpo.policy import PolicyConfig
from lit_longpo.training.monitors import check_known, check_validated


class Rows(LightningDataModule):
    """Six rows of training, and some of validation."""

    def __init__(self, validation=1):
        super().__init__()
        self.validation = validation

    def train_dataloader(self):
        return range(6)

    def val_dataloader(self):
        return range(self.validation)


class TrainingOnly(LightningDataModule):
    """Nothing to validate on."""

    def train_dataloader(self):
        return range(6)


class Endless(LightningDataModule):
    """Loaders of one's own without a length."""

    def train_dataloader(self):
        return iter(range(6))

    val_dataloader = train_dataloader


def trainer(*callbacks, data=None, **options):
    one = ResumableTrainer(
        **{"max_epochs": 1, **options}, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[*callbacks],
    )  # fmt: skip
    one.datamodule = data or Rows()
    return one


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"limit_val_batches": 0}, r"`trainer.limit_val_batches` is 0; type"),
        (
            {"data": Rows(validation=0)},
            r"no validation pairs, or none as short as .*; set `data.+val_fraction`",
        ),
        ({"data": TrainingOnly()}, r"no validation pairs"),
        ({"check_val_every_n_epoch": 2}, r"after 12 rows .* ends after 6; type"),
        ({"max_steps": 5}, r"after 6 rows .* ends after 5; type"),
        ({"max_steps": 1, "accumulate_grad_batches": 2, "val_check_interval": 0.5}, r"after 3 rows .* ends after 2; "),
        ({"val_check_interval": 7, "check_val_every_n_epoch": None}, r"after 7 rows .* ends after 6; type"),
    ],
)
def test_what_only_a_validation_gives_needs_one(options, said):
    """Lightning kept nothing of such a run, without a word (keras#16734 says so at least)."""
    for callback in (ModelCheckpoint(monitor="val/loss"), EarlyStopping("benchmark/qa/mean")):
        with pytest.raises(InputError, match=rf"`monitor: {callback.monitor}` waits for, got none: .*{said}"):
            check_validated(trainer(callback, **options))
    check_validated(trainer(ModelCheckpoint(), EarlyStopping("train/loss"), ModelCheckpoint(monitor="step"), **options))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_steps": 6},
        {"max_steps": 2, "accumulate_grad_batches": 3},
        {"check_val_every_n_epoch": 2, "max_epochs": -1},
        {"limit_train_batches": 2, "max_steps": 2},
        {"val_check_interval": 8, "check_val_every_n_epoch": None, "max_epochs": 2},
        {"val_check_interval": "00:01:00:00", "max_steps": 5, "max_epochs": -1},
        {"fast_dev_run": True},
        {"data": Endless(), "max_steps": 2},
    ],
)
def test_a_run_that_validates_passes(options):
    check_validated(trainer(EarlyStopping("val/loss"), **options))


@pytest.mark.parametrize(
    ("monitor", "meant"),
    [
        *(("val_loss", "val/loss"), ("eval_loss", "val/loss"), ("eval/loss", "val/loss"), ("loss", "val/loss")),
        *(("train/losss", "train/loss"), ("eval_rewards/margins", "val/rewards/margins")),
        *((name, None) for name in ("val/loss", "val/books/loss", "val/own", "own", "benchmark/qa/mean", "step")),
        *((name, None) for name in ("val/kl_loss", "val/loss_2k", "own_loss", "val/rewards/margins_ema")),
    ],
)
def test_a_misspelt_metric_is_said_after_the_first_step(monitor, meant):
    """Lightning said it behind the first validation, or the whole training (keras#21109)."""
    metrics = {f"train/{name}": torch.ones(()) for name in ("loss", "rewards/margins", "learning_rate")}
    one = SimpleNamespace(callbacks=[ModelCheckpoint(monitor=monitor)], callback_metrics=metrics)
    if meant is None:
        check_known(one)
        return
    with pytest.raises(InputError, match=rf"got {monitor}, which is none; set monitor: {meant} in its init_args"):
        check_known(one)


def test_a_fit_asks_before_it_loads_and_after_its_first_step(policy_folder, tmp_path):
    module = SFT(policy=PolicyConfig(source=str(policy_folder)))
    data = RandomPairs(module.views, num_examples=12)
    one = trainer(EarlyStopping("val_loss"), use_distributed_sampler=False, default_root_dir=tmp_path)
    with pytest.raises(InputError, match="set monitor: val/loss"):
        one.fit(module, datamodule=data)
    assert one.global_step == 1
    module = SFT(policy=PolicyConfig(source=str(policy_folder)))
    one = trainer(EarlyStopping("val/loss"), limit_val_batches=0, default_root_dir=tmp_path)
    with pytest.raises(InputError, match="limit_val_batches"):
        one.fit(module, datamodule=data)
    assert not module.is_built
