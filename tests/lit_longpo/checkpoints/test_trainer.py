"""Errors of ours that an error of Lightning's tidying up would hide; checkpoints that are not written."""

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.plugins.io import AsyncCheckpointIO
from support.stored_checkpoints import trainer

from lit_longpo.checkpoints import ResumableTrainer
from lit_longpo.checkpoints.progress import is_over
from lit_longpo.errors import InputError


def fit(monkeypatch, first, second):
    """`ResumableTrainer.fit` where `first` is raised, and `second` while Lightning tidies up."""

    def failing(*arguments):
        try:
            raise first
        except type(first):
            raise second  # noqa: B904  (as Lightning does)

    monkeypatch.setattr(Trainer, "fit", failing)
    ResumableTrainer(accelerator="cpu", logger=False, enable_checkpointing=False).fit(BoringModel())


def test_an_error_of_ours_comes_out(monkeypatch):
    with pytest.raises(InputError, match="expected the data"):
        fit(monkeypatch, InputError("expected the data"), RuntimeError("whatever Lightning says"))


def test_errors_of_others_stay_as_they_are(monkeypatch):
    with pytest.raises(RuntimeError, match="second"):
        fit(monkeypatch, ValueError("first"), RuntimeError("second"))
    with pytest.raises(InputError, match="second"):
        fit(monkeypatch, InputError("first"), InputError("second"))


def test_it_does_when_a_loader_cannot_be_restored(tmp_path):
    """In Lightning's own words and order of events."""

    class Refusing(BoringModel):
        def train_dataloader(self):
            return RefusingLoader()

    trainer = ResumableTrainer(accelerator="cpu", max_steps=1, default_root_dir=tmp_path, logger=False)
    trainer.fit(Refusing())
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    again = ResumableTrainer(accelerator="cpu", max_steps=2, default_root_dir=tmp_path, logger=False)
    with pytest.raises(InputError, match="expected the data"):
        again.fit(Refusing(), ckpt_path=tmp_path / "one.ckpt")


def test_the_end_of_a_training_is_said_once(tmp_path, caplog):
    """Asking whether it is over made Lightning say so: twice where a run that was over goes on, or in two processes."""
    caplog.set_level("INFO")
    quiet = {"accelerator": "cpu", "max_steps": 1, "default_root_dir": tmp_path, "logger": False}
    trainer = ResumableTrainer(**quiet)
    trainer.fit(BoringModel())
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    assert caplog.text.count("`max_steps=1` reached") == 1
    ResumableTrainer(**quiet).fit(BoringModel(), ckpt_path=tmp_path / "one.ckpt")
    assert caplog.text.count("`max_steps=1` reached") == 2
    assert is_over(trainer)
    assert caplog.text.count("`max_steps=1` reached") == 2


class RefusingLoader(list):
    """A loader with a state that it does not take back."""

    def __init__(self):
        super().__init__([torch.randn(1, 32) for _ in range(4)])

    def state_dict(self):
        return {"row": 1}

    def load_state_dict(self, state):
        raise InputError("expected the data")


def test_asynchronous_checkpoints_are_refused(tmp_path):
    with pytest.raises(ValueError, match="remove AsyncCheckpointIO"):
        trainer(tmp_path, plugins=[AsyncCheckpointIO()]).save_checkpoint(tmp_path / "last.ckpt")


def test_a_dry_run_writes_no_checkpoint(tmp_path):
    last = ModelCheckpoint(tmp_path, save_last=True)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    ResumableTrainer(fast_dev_run=True, default_root_dir=tmp_path, callbacks=[last], **quiet).fit(BoringModel())
    assert not list(tmp_path.iterdir())
