"""EarlyStopping decides where a run may end, and waits as long as its own start says."""

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from support.line import Line
from support.quiet_cpu import QUIET_CPU
from torchdata.stateful_dataloader import StatefulDataLoader

from lit_longpo.checkpoints import ResumableTrainer, keep_patience

ROWS = 4


class Told(Line):
    """Its validation gives one told number after another."""

    def __init__(self, values):
        super().__init__()
        self.values, self.rows = iter(values), []

    def validation_step(self, batch, number):
        self.rows.append(self.trainer.fit_loop.epoch_loop.batch_progress.total.ready)
        self.log("val/told", next(self.values))

    def on_load_checkpoint(self, checkpoint):
        keep_patience(self.trainer, checkpoint)


def fit(folder, values, patience=1, checkpoint=None, kind=ResumableTrainer, **options):
    """Epochs that were trained, and the module."""
    module, rows = Told(values), torch.ones(ROWS)
    stops = EarlyStopping("val/told", patience=patience)
    trainer = kind(
        **{**QUIET_CPU, "max_epochs": 6, **options}, num_sanity_val_steps=0, default_root_dir=folder,
        callbacks=[stops, ModelCheckpoint(folder, "{epoch}", save_top_k=-1)],
    )  # fmt: skip
    trainer.fit(module, StatefulDataLoader(rows), StatefulDataLoader(rows[:1]), ckpt_path=checkpoint)
    return trainer.current_epoch, module


RECOVERS = [2.0, 3.0, 1.0, 0.5, 0.4, 0.3]


@pytest.mark.parametrize("least", [{"min_epochs": 3}, {"min_steps": 3 * ROWS - 1}])
def test_a_metric_that_recovers_before_the_least_length_stops_nothing(least, tmp_path):
    """Lightning 2.6 ends the run at the least length, whatever came in between (Lightning#19966)."""
    assert fit(tmp_path / "theirs", RECOVERS, kind=Trainer, **least)[0] == 3
    assert fit(tmp_path / "ours", RECOVERS, **least)[0] == 6


@pytest.mark.parametrize(("least", "epochs"), [({}, 2), ({"min_epochs": 3}, 3), ({"min_epochs": 2}, 2)])
def test_one_that_does_not_recover_stops_there(least, epochs, tmp_path):
    assert fit(tmp_path, [2.0, 3.0, 4.0, 5.0, 6.0, 7.0], **least)[0] == epochs


def test_a_stop_that_has_to_wait_validates_nothing_between_the_rows_of_a_step(tmp_path):
    options = {"min_epochs": 3, "max_epochs": 3, "val_check_interval": 2, "accumulate_grad_batches": 4}
    _, module = fit(tmp_path, [2.0, 3.0, 4.0, 5.0, 6.0, 7.0], **options)
    assert module.rows == [4, 8, 12]


@pytest.mark.parametrize(("patience", "epochs"), [(1, 3), (3, 4), (4, 5)])
def test_a_run_that_goes_on_waits_as_long_as_it_is_told(patience, epochs, tmp_path):
    """Lightning 2.6 waits as long as the checkpoint's run was told, here two validations."""
    fit(tmp_path, [1.0, 2.0], patience=2, max_epochs=2)
    assert fit(tmp_path, [2.0] * 4, patience, tmp_path / "epoch=1.ckpt")[0] == epochs
