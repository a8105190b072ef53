"""The last lines of `fit`: what they name is there, and what they say to type runs."""

import logging
import shlex
import sys
from pathlib import Path

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from matplotlib.figure import Figure
from support.preference_data import RandomPairs
from torchdata.stateful_dataloader import StatefulDataLoader

from lit_longpo.callbacks import RunSummary, SavePretrained
from lit_longpo.checkpoints import ResumableTrainer
from lit_longpo.errors import InputError
from lit_longpo.help.stored import stored_help
from lit_longpo.loggers import pages_of
from lit_longpo.objectives import ORPO
from lit_longpo.policy import PolicyConfig


class Stop(Callback):
    def __init__(self, error):
        self.error = error

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == 1:
            raise self.error


def fit(policy_folder, *callbacks, ckpt_path=None, **options):
    module = ORPO(policy=PolicyConfig(source=str(policy_folder)))
    options.setdefault("max_steps", 2)
    trainer = ResumableTrainer(
        accelerator="cpu", logger=CSVLogger("runs"), enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=0, use_distributed_sampler=False, num_sanity_val_steps=0,
        callbacks=[RunSummary(), *callbacks], **options,
    )  # fmt: skip
    trainer.fit(module, datamodule=RandomPairs(module.views), ckpt_path=ckpt_path)


@pytest.fixture
def lines(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO, "lit_longpo.callbacks.run_summary")
    return lambda: [
        line.strip()
        for record in caplog.records
        if record.name == "lit_longpo.callbacks.run_summary"
        for line in record.getMessage().splitlines()
    ]


def named(lines, name):
    [path] = [line.split()[1] for line in lines if line.startswith(f"{name} ")]
    return path


def commands(lines):
    return [shlex.split(line)[3:] for line in lines if line.startswith("python -m lit_longpo")]


def test_what_a_metric_chose_is_named_with_its_value(policy_folder, lines, tmp_path):
    watch = ModelCheckpoint(monitor="train/loss", every_n_train_steps=1)
    fit(policy_folder, watch)
    assert (tmp_path / named(lines(), "best")).samefile(watch.best_model_path)
    assert f"(train/loss {float(watch.best_model_score):.4g})" in "".join(lines())


def test_the_last_ones_are_not_called_the_best(policy_folder, lines):
    watch = ModelCheckpoint(monitor="step", mode="max", every_n_train_steps=1)
    fit(policy_folder, watch)
    assert watch.best_model_path
    assert not any(line.strip().startswith("best") for line in lines())


def test_what_ended_a_run_early_is_said(policy_folder, lines):
    """Lightning says it under `verbose` alone, so that a run of twenty steps "finished at step 4"."""
    fit(policy_folder, EarlyStopping("train/loss", patience=1, min_delta=100.0, check_on_train_epoch_end=True),
        limit_train_batches=1, max_epochs=9, max_steps=-1)  # fmt: skip
    [told] = [line for line in lines() if line.startswith("ended by")]
    assert "EarlyStopping: Monitored metric train/loss did not improve in the last 1 records. Best score: " in told
    assert "Trainer" not in told


def test_a_stopper_that_did_not_stop_is_not_named(policy_folder, lines):
    fit(policy_folder, EarlyStopping("train/loss", patience=9, check_on_train_epoch_end=True))
    assert not any(line.startswith("ended by") for line in lines())


def test_a_finished_run_names_model_and_checkpoint(policy_folder, lines, tmp_path):
    fit(policy_folder, ModelCheckpoint(save_last=True), SavePretrained())
    said = lines()
    assert said[0] == "finished at step 2: runs/lightning_logs/version_0"
    assert (tmp_path / named(said, "checkpoint")).name == "last.ckpt"
    assert (tmp_path / named(said, "checkpoint")).exists()
    assert (tmp_path / named(said, "model") / "model.safetensors").exists()
    [evaluate] = commands(said)
    assert evaluate[:4] == ["evaluate", "--config", "eval/qa", "--model"]
    assert evaluate[4] == named(said, "model")
    assert evaluate[-2:] == ["--output", "runs/lightning_logs/version_0/qa"]  # another run's answers are not there


class Picture(Callback):
    def on_train_start(self, trainer, *_):
        pages_of(trainer.loggers, Path(trainer.logger.log_dir))[0].figure("a", Figure(), 0)


def test_pages_in_a_folder_are_named_where_there_are_some(policy_folder, lines, tmp_path):
    """Without a benchmark there are none, and `ls` failed."""
    fit(policy_folder)
    assert not [line for line in lines() if line.startswith("ls ")]
    fit(policy_folder, Picture())
    [line] = [line for line in lines() if line.startswith("ls ")]
    listed, *said = shlex.split(line)[1:]
    assert said == ["#", "pictures"]
    assert [path.name for path in (tmp_path / listed).iterdir()] == ["a-step0.png"]


@pytest.mark.parametrize(("activated", "there"), [(False, True), (True, True), (False, False)])
def test_commands_of_an_environment_that_is_not_active_begin_with_its_activation(
    activated, there, policy_folder, lines, tmp_path, monkeypatch
):
    """`make demo` ends in commands that the shell's own Python, if there is one, cannot run."""
    folder = tmp_path / ".venv" / "bin"
    folder.mkdir(parents=True)
    for name in ("python", "activate")[: 1 + there]:
        (folder / name).touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setenv("PATH", str(folder if activated else tmp_path))
    fit(policy_folder, max_steps=1)
    said = lines()
    following = said[said.index("what to type next:") + 1]
    assert (following == "source .venv/bin/activate") == (there and not activated)


@pytest.mark.parametrize(
    ("error", "how"), [(KeyboardInterrupt(), "interrupted"), (InputError("x"), "stopped by an error")]
)
def test_a_stopped_run_says_how_to_go_on(policy_folder, lines, error, how):
    save = ModelCheckpoint(every_n_train_steps=1, save_last=True)
    with pytest.raises((SystemExit, InputError)):
        fit(policy_folder, save, Stop(error))
    said = lines()
    assert said[0].startswith(f"{how} at step 1: ")
    assert not [line for line in said if line.startswith("model ")]
    first, second, _ = commands(said)
    checkpoint = named(said, "checkpoint")
    assert first == ["fit", "--config", "runs/lightning_logs/version_0/config.yaml", "--ckpt_path", checkpoint]
    assert second == ["export", "--checkpoint", checkpoint, "--output", "runs/lightning_logs/version_0/model"]
    for command, *words in commands(said):
        assert all(word in stored_help(command) for word in words if word.startswith("--") and "." not in word)


@pytest.mark.parametrize("options", [{"fast_dev_run": True}, {}], ids=["trial", "refused"])
def test_nothing_is_said_of_what_is_not_there(policy_folder, lines, options):
    if options:
        fit(policy_folder, **options)
    else:
        with pytest.raises(InputError):
            fit(policy_folder, Refuses())
    assert lines() == []


def test_a_resume_that_is_refused_has_not_run(policy_folder, lines, tmp_path, monkeypatch):
    fit(policy_folder, ModelCheckpoint(tmp_path / "kept", save_last=True))
    before = len(lines())

    def refuse(loader, state):
        raise InputError("other rows")

    monkeypatch.setattr(StatefulDataLoader, "load_state_dict", refuse)
    with pytest.raises(InputError, match="other rows"):
        fit(policy_folder, ckpt_path=tmp_path / "kept" / "last.ckpt", max_steps=4)
    assert len(lines()) == before


class Refuses(Callback):
    def on_train_start(self, *_):
        raise InputError("x")
