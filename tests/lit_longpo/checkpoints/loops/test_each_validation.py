"""A validation after each row is looked at by what watches its metric."""

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from support.line import Line
from support.quiet_cpu import QUIET_CPU
from torchdata.stateful_dataloader import StatefulDataLoader

from lit_longpo.checkpoints import ResumableTrainer

ROWS = 4
BEST_IN_MID_EPOCH = [5.0, 1.0, 4.0, 3.0, 6.0, 7.0, 8.0, 2.0]


class Told(Line):
    """Its validation gives one told number after another."""

    def __init__(self, values):
        super().__init__()
        self.values = iter(values)

    def validation_step(self, batch, number):
        self.log("val/told", next(self.values))


def fit(folder, callback, kind=ResumableTrainer, **options):
    """Steps that were trained for two epochs, with a validation after each row."""
    rows = torch.ones(ROWS)
    trainer = kind(
        **{**QUIET_CPU, "max_epochs": 2, "val_check_interval": 1, **options}, num_sanity_val_steps=0,
        default_root_dir=folder, callbacks=[callback],
    )  # fmt: skip
    trainer.fit(Told(BEST_IN_MID_EPOCH), StatefulDataLoader(rows), StatefulDataLoader(rows[:1]))
    return trainer.global_step


@pytest.mark.parametrize(("kind", "best"), [(Trainer, 2.0), (ResumableTrainer, 1.0)])
def test_the_best_checkpoint_is_that_of_all_validations(kind, best, tmp_path):
    """Lightning 2.6 takes the whole number 1 for the share 1.0, and saves at the ends of epochs alone."""
    kept = ModelCheckpoint(tmp_path, "{step}", monitor="val/told")
    fit(tmp_path, kept, kind)
    assert kept.best_model_score == best


@pytest.mark.parametrize(("kind", "steps"), [(Trainer, 8), (ResumableTrainer, 4)])
def test_patience_counts_validations(kind, steps, tmp_path):
    assert fit(tmp_path, EarlyStopping("val/told", patience=2), kind) == steps


@pytest.mark.parametrize("interval", [1, 1.0])
def test_without_validations_checkpoints_are_written_at_the_ends_of_epochs(interval, tmp_path):
    kept = ModelCheckpoint(tmp_path, "{step}", monitor="step", save_top_k=-1)
    fit(tmp_path, kept, limit_val_batches=0, val_check_interval=interval)
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == ["step=4.ckpt", "step=8.ckpt"]


def test_what_is_said_of_the_callbacks_stays(tmp_path):
    kept = ModelCheckpoint(tmp_path, "{step}", monitor="val/told", save_on_train_epoch_end=True)
    fit(tmp_path, kept)
    assert kept.best_model_score == 2.0
    assert fit(tmp_path, EarlyStopping("val/told", patience=2, check_on_train_epoch_end=True)) == 8
