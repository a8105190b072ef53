"""A named folder's metrics.csv over several starts (rf-detr#1321): Lightning deletes it at each."""

import csv

import pytest
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import CSVLogger

from lit_longpo.checkpoints import ResumableTrainer
from lit_longpo.errors import InputError


class Counting(BoringModel):
    """Logs its steps' losses as training does, and before it another value as benchmarks do."""

    broken = False

    def setup(self, stage):
        if self.broken:
            raise InputError("expected other data")

    def training_step(self, batch, batch_idx):
        self.log("train/loss", float(self.global_step))
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", 0.5)

    def on_train_start(self):
        if not self.global_step:
            self.logger.log_metrics({"benchmark/mean": 10.0}, step=0)

    def on_train_end(self):
        self.logger.log_metrics({"benchmark/mean": 10.0}, step=self.global_step)


def trained(folder, steps, model=None, callbacks=(), **options):
    trainer = ResumableTrainer(
        callbacks=list(callbacks),
        accelerator="cpu", max_steps=steps, log_every_n_steps=1, limit_val_batches=0, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, logger=CSVLogger(folder, name="run", version=0),
    )  # fmt: skip
    trainer.fit(model or Counting(), **options)
    return trainer


def rows(folder, file="metrics.csv"):
    with open(folder / "run" / "version_0" / file, newline="") as lines:
        return [
            (int(row["step"]), *(float(row[name]) for name in ("train/loss", "benchmark/mean") if row[name]))
            for row in csv.DictReader(lines)
        ]


def test_a_run_that_goes_on_writes_behind_its_rows(tmp_path, recwarn):
    four = trained(tmp_path, 4)
    four.save_checkpoint(tmp_path / "four.ckpt")
    whole = [(0, 10.0), (0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0), (4, 10.0)]
    assert rows(tmp_path) == whole
    trained(tmp_path, 6, ckpt_path=tmp_path / "four.ckpt")
    assert rows(tmp_path) == [*whole, (4, 4.0), (5, 5.0), (6, 10.0)]
    trained(tmp_path, 5, ckpt_path=tmp_path / "four.ckpt")  # what came behind the checkpoint comes once
    assert rows(tmp_path) == [*whole, (4, 4.0), (5, 10.0)]
    assert not [warning for warning in recwarn if "will be deleted" in str(warning.message)]


def test_the_rate_of_a_step_that_comes_again_comes_once(tmp_path):
    """A LearningRateMonitor writes it before the step, without an epoch, as benchmarks write what is done."""
    trained(
        tmp_path, 3, callbacks=[LearningRateMonitor("step"), ModelCheckpoint(tmp_path, "two", every_n_train_steps=2)]
    )
    trained(tmp_path, 4, callbacks=[LearningRateMonitor("step")], ckpt_path=tmp_path / "two.ckpt")
    with open(tmp_path / "run" / "version_0" / "metrics.csv", newline="") as lines:
        steps = [int(row["step"]) for row in csv.DictReader(lines) if row["lr-SGD"]]
    assert steps == [0, 1, 2, 3]


@pytest.mark.parametrize("cut", ["0", "10.0,0,1,0."])
def test_a_line_that_was_cut_off_does_not_keep_a_run_from_going_on(cut, tmp_path):
    trained(tmp_path, 2).save_checkpoint(tmp_path / "two.ckpt")
    path = tmp_path / "run" / "version_0" / "metrics.csv"
    path.write_text(path.read_text() + cut)
    trained(tmp_path, 3, ckpt_path=tmp_path / "two.ckpt")
    assert rows(tmp_path) == [(0, 10.0), (0, 0.0), (1, 1.0), (2, 10.0), (2, 2.0), (3, 10.0)]


def test_a_start_that_is_refused_leaves_them(tmp_path):
    trained(tmp_path, 2)
    before = (tmp_path / "run" / "version_0" / "metrics.csv").read_text()
    refused = Counting()
    refused.broken = True
    with pytest.raises(InputError, match="expected other data"):
        trained(tmp_path, 4, refused)
    assert (tmp_path / "run" / "version_0" / "metrics.csv").read_text() == before
    assert [path.name for path in (tmp_path / "run" / "version_0").glob("metrics*")] == ["metrics.csv"]


def test_a_training_anew_has_a_file_of_its_own(tmp_path, caplog):
    for steps in (2, 1, 3):
        trained(tmp_path, steps)
    assert rows(tmp_path) == [(0, 10.0), (0, 0.0), (1, 1.0), (2, 2.0), (3, 10.0)]
    assert rows(tmp_path, "metrics-1.csv") == [(0, 10.0), (0, 0.0), (1, 1.0), (2, 10.0)]
    assert rows(tmp_path, "metrics-2.csv") == [(0, 10.0), (0, 0.0), (1, 10.0)]
    assert caplog.text.count("an earlier training's rows are in metrics-") == 2


def test_validation_writes_behind_them(tmp_path):
    before = trained(tmp_path, 2)
    before.save_checkpoint(tmp_path / "two.ckpt")
    whole = rows(tmp_path)
    trainer = ResumableTrainer(
        accelerator="cpu", limit_val_batches=1, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=tmp_path, logger=CSVLogger(tmp_path, name="run", version=0),
    )  # fmt: skip
    trainer.validate(Counting(), ckpt_path=tmp_path / "two.ckpt", verbose=False)
    assert rows(tmp_path) == [*whole, (0,)]
