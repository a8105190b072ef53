"""What is called the last checkpoint is that of the last step."""

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from support.line import Line
from support.quiet_cpu import QUIET_CPU
from torchdata.stateful_dataloader import StatefulDataLoader

from lit_longpo.checkpoints import ResumableTrainer

ROWS = 5


class Worse(Line):
    """Its validation gets worse and worse."""

    def validation_step(self, batch, number):
        self.log("val/told", float(self.global_step))


def fit(folder, *callbacks, kind=ResumableTrainer, **options):
    """Step of each checkpoint that is there in the end."""
    trainer = kind(
        **{**QUIET_CPU, "max_epochs": 1, **options}, num_sanity_val_steps=0, default_root_dir=folder,
        callbacks=list(callbacks),
    )  # fmt: skip
    rows = torch.ones(ROWS)
    trainer.fit(Worse(), StatefulDataLoader(rows), StatefulDataLoader(rows[:1]))
    files = sorted(folder.glob("*.ckpt"))
    return {file.stem: torch.load(file, weights_only=True)["global_step"] for file in files}


@pytest.mark.parametrize(
    ("options", "trainer", "theirs", "ours"),
    [
        ({"save_last": True}, {"val_check_interval": 0.5}, {"step=4": 4, "last": 4}, {"step=5": 5, "last": 5}),
        ({}, {"val_check_interval": 2}, {"step=4": 4}, {"step=5": 5}),
        ({"save_top_k": -1}, {"val_check_interval": 4}, {"step=4": 4}, {"step=4": 4, "step=5": 5}),
        ({"every_n_train_steps": 2}, {}, {"step=4": 4}, {"step=5": 5}),
        ({"every_n_epochs": 2}, {"max_epochs": 3}, {"step=10": 10}, {"step=15": 15}),
        ({"every_n_train_steps": 100}, {"max_steps": 3}, {}, {"step=3": 3}),
        ({"monitor": "step", "mode": "max", "every_n_train_steps": 2}, {}, {"step=4": 4}, {"step=5": 5}),
        # A metric chose the first; `last.ckpt` is the last.
        (
            {"monitor": "val/told", "save_last": True}, {"max_epochs": 3},
            {"step=5": 5, "last": 5}, {"step=5": 5, "last": 15},
        ),
        ({"monitor": "val/told"}, {"max_epochs": 3}, {"step=5": 5}, {"step=5": 5}),
        ({"save_top_k": 0}, {"val_check_interval": 2}, {}, {}),
        ({"save_last": True}, {}, {"step=5": 5, "last": 5}, {"step=5": 5, "last": 5}),
        # A link leads to the last weights; it led to those of a metric, or to a file that was replaced.
        (
            {"save_last": "link", "monitor": "val/told"}, {"max_epochs": 3},
            {"step=5": 5, "last": 5}, {"step=5": 5, "last": 15},
        ),
        (
            {"save_last": "link", "every_n_train_steps": 2}, {"max_epochs": 3},
            {"step=14": 14, "last": 14}, {"step=15": 15, "last": 15},
        ),
    ],
)  # fmt: skip
def test_the_last_step_is_kept(options, trainer, theirs, ours, tmp_path):
    """Lightning 2.6 keeps what its last interval had (as in pvnet#544), and `fit` offered that as the trained model."""
    for name, kind, kept in (("theirs", Trainer, theirs), ("ours", ResumableTrainer, ours)):
        keep = ModelCheckpoint(tmp_path / name, "{step}", **options)
        assert fit(tmp_path / name, keep, kind=kind, **trainer) == kept


class Seen(Callback):
    """Steps of `last.ckpt` where each epoch has ended."""

    def __init__(self, keep):
        self.keep, self.steps = keep, []

    def on_train_epoch_start(self, trainer, module):
        if path := self.keep.last_model_path:
            self.steps.append(torch.load(path, weights_only=True)["global_step"])


def test_a_run_that_is_killed_finds_the_last_epoch(tmp_path):
    keep = ModelCheckpoint(tmp_path, "{step}", monitor="val/told", save_last=True)
    seen = Seen(keep)
    fit(tmp_path, keep, seen, max_epochs=4)
    assert seen.steps == [5, 10, 15]


def test_a_run_that_is_stopped_early_keeps_its_last_step(tmp_path):
    keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=4)
    assert fit(tmp_path, keep, EarlyStopping("val/told", patience=1), max_epochs=9) == {"step=10": 10}


def test_two_that_keep_the_last_write_it_once(tmp_path):
    keep = [ModelCheckpoint(tmp_path, f"{{step}}-every{n}", every_n_train_steps=n) for n in (2, 3)]
    assert fit(tmp_path, *keep) == {"step=3-every3": 3, "step=5-every2": 5}


@pytest.mark.parametrize(("mode", "links"), [("max", True), ("min", False)])
def test_a_link_stays_one_where_the_last_weights_have_a_file(mode, links, tmp_path):
    fit(tmp_path, ModelCheckpoint(tmp_path, "{step}", monitor="val/told", mode=mode, save_last="link"), max_epochs=3)
    assert (tmp_path / "last.ckpt").is_symlink() == links
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 15


def test_beside_an_average_the_last_step_has_the_weights_that_training_goes_on_with(tmp_path):
    keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=2)
    fit(tmp_path, EMAWeightAveraging(decay=0.5), keep)
    checkpoint = torch.load(tmp_path / "step=5.ckpt", weights_only=True)
    assert checkpoint["current_model_state"]["weight"] == -ROWS
    assert checkpoint["state_dict"]["weight"] > -ROWS
