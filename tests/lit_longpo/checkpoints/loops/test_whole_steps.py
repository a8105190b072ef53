"""Between the rows of one optimizer step nothing is validated, saved or ended."""

import time
from datetime import timedelta

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from support.line import Line
from torchdata.stateful_dataloader import StatefulDataLoader

from lit_longpo.checkpoints import ResumableTrainer

ROWS, A_STEP = 7, 3  # two whole steps and one of the last row


class Places(Callback):
    """After how many rows something was validated, saved and ended."""

    def __init__(self):
        self.validated, self.saved, self.ended = [], set(), None

    @staticmethod
    def _rows(trainer):
        return trainer.fit_loop.epoch_loop.batch_progress.total.ready

    def on_validation_start(self, trainer, module):
        self.validated.append(self._rows(trainer))

    def on_save_checkpoint(self, trainer, module, checkpoint):
        self.saved.add(self._rows(trainer))

    def on_train_end(self, trainer, module):
        self.ended = self._rows(trainer)


class LongRow(Callback):
    """The first one takes longer than the training may."""

    def on_train_batch_start(self, trainer, module, batch, number):
        time.sleep(0.0 if number else 0.2)


def fit(folder, *callbacks, checkpoint=None, **options):
    """What happened after which rows, and the weight in the end."""
    places, module = Places(), Line()
    trainer = ResumableTrainer(
        **({"max_epochs": 1, "accumulate_grad_batches": A_STEP} | options), accelerator="cpu", logger=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, default_root_dir=folder,
        callbacks=[places, *callbacks],
    )  # fmt: skip
    rows = torch.arange(1.0, ROWS + 1)
    trainer.fit(module, StatefulDataLoader(rows), StatefulDataLoader(rows[:1]), ckpt_path=checkpoint)
    return places, module.weight.item()


@pytest.mark.parametrize(
    ("options", "validated"),
    [
        ({"val_check_interval": 2}, [3, 6]),  # 2; 4 and 6
        ({"val_check_interval": 3}, [3, 6]),
        ({"val_check_interval": 4, "check_val_every_n_epoch": None, "max_epochs": 2}, [6, 10, 13]),  # 4, 8 and 12
        ({"val_check_interval": 2, "accumulate_grad_batches": 1}, [2, 4, 6]),
    ],
)
def test_a_validation_comes_behind_the_step_that_it_falls_into(options, validated, tmp_path):
    places, _ = fit(tmp_path, ModelCheckpoint(tmp_path / "kept", "{step}", save_top_k=-1), **options)
    assert places.validated == validated
    assert places.saved >= set(validated)


def test_a_run_that_goes_on_saves_behind_steps_only(tmp_path):
    """Lightning 2.6 wrote `last.ckpt` behind the first row: whoever went on from that lost the row's gradient."""
    keep = {"filename": "{step}", "every_n_train_steps": 1, "save_top_k": -1, "save_last": True}
    whole, weight = fit(tmp_path, ModelCheckpoint(tmp_path / "kept", **keep))
    assert whole.saved == {3, 6, 7}
    again, same = fit(tmp_path, ModelCheckpoint(tmp_path / "kept", **keep), checkpoint=tmp_path / "kept/step=1.ckpt")
    assert again.saved == {6, 7}
    assert same == weight


def test_what_goes_by_the_clock_waits_for_the_end_of_a_step(tmp_path, caplog):
    by_time = ModelCheckpoint(tmp_path / "kept", "{step}", save_top_k=-1, train_time_interval=timedelta(0))
    places, _ = fit(tmp_path, by_time)
    assert places.saved == {3, 6, 7}
    keep = ModelCheckpoint(tmp_path / "ended", save_last=True)
    limit = {"max_time": timedelta(seconds=0.1)}
    places, _ = fit(tmp_path, LongRow(), keep, **limit)
    assert places.ended == 3
    places, _ = fit(tmp_path, checkpoint=tmp_path / "ended/last.ckpt", enable_checkpointing=False, **limit)
    assert places.ended == 3
    assert "nothing is trained: `trainer.max_time` is the time of the whole training" in caplog.text
