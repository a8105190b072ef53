"""SIGTERM and Ctrl-C in the middle of a training: a checkpoint, the right status, and a resume that is exact."""

import logging
import os
import signal
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import ModelParallelStrategy
from support.preference_data import RandomPairs
from support.ranks import run_ranks

from lit_longpo import __main__ as command
from lit_longpo.callbacks import RunSummary
from lit_longpo.checkpoints import ResumableTrainer
from lit_longpo.checkpoints.signals import StopSignals
from lit_longpo.objectives import ORPO
from lit_longpo.policy import LoRA, PolicyConfig
from lit_longpo.strategies import gathered_state_dict

ONE_STEP = {"accumulate_grad_batches": 6, "val_check_interval": 6}  # of an epoch


class Losses(Callback):
    """Of every row; the weights at the end."""

    def __init__(self):
        self.values, self.weights = [], {}

    def on_train_batch_end(self, trainer, module, outputs, *_):
        self.values.append(float(outputs["loss"]))

    def on_train_end(self, trainer, module):
        self.weights = gathered_state_dict(module.model, keep=True)


class Signal(Callback):
    """Sends signals to this process, as a scheduler does, at a moment of step two."""

    def __init__(self, moment, *signals, rank=0):
        self.moment, self.signals, self.rank = moment, signals, rank

    def _send(self, trainer, moment):
        if moment == self.moment and trainer.global_step == 2 and trainer.global_rank == self.rank:
            signals, self.signals = self.signals, ()
            for signum in signals:
                os.kill(os.getpid(), signum)

    def on_train_batch_start(self, trainer, *_):
        self._send(trainer, "in a step")

    def on_validation_batch_start(self, trainer, *_):
        self._send(trainer, "in a validation")


def train(folder, policy_folder, *callbacks, strategy="auto", resume=None, **options):
    """Four steps, a validation after every second, dropout in the adapters."""
    seed_everything(0, verbose=False)
    module = ORPO(policy=PolicyConfig(source=str(policy_folder), lora=LoRA(r=2, dropout=0.2)))
    losses, save = Losses(), ModelCheckpoint(folder / "checkpoints", save_last=True)
    trainer = ResumableTrainer(
        **{"max_steps": 4, "max_epochs": -1, "val_check_interval": 2, "check_val_every_n_epoch": None, **options},
        accelerator="cpu", devices=1 if strategy == "auto" else 2, strategy=strategy, logger=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False, num_sanity_val_steps=0,
        default_root_dir=folder, callbacks=[losses, save, RunSummary(), *callbacks],
    )  # fmt: skip
    code = None
    try:
        trainer.fit(module, datamodule=RandomPairs(module.views, num_examples=12), ckpt_path=resume)
    except SystemExit as stop:
        code = stop.code
    return losses, code, trainer


def assert_goes_on(whole, stopped, resumed):
    assert stopped.values + resumed.values == whole.values
    for name, tensor in whole.weights.items():
        assert torch.equal(resumed.weights[name], tensor), name


@pytest.mark.parametrize(
    ("moment", "signum", "status", "options"),
    [
        ("in a step", signal.SIGTERM, 143, {}),
        pytest.param("in a validation", signal.SIGINT, 130, {}, marks=pytest.mark.slow),
        pytest.param(
            *("in a step", signal.SIGTERM, 143, {"accumulate_grad_batches": 2, "max_steps": 5}), marks=pytest.mark.slow
        ),
        ("in a step", signal.SIGTERM, 143, ONE_STEP),
    ],
    ids=["SIGTERM", "Ctrl-C while validating", "between two gradients", "one step an epoch"],
)
def test_a_stopped_training_goes_on_as_if_it_had_not_been(
    moment, signum, status, options, policy_folder, tmp_path, caplog, capfd
):
    caplog.set_level(logging.INFO, "lit_longpo")
    before = signal.getsignal(signum)
    whole, _, ended = train(tmp_path / "whole", policy_folder, **options)
    stopped, code, trainer = train(tmp_path / "stopped", policy_folder, Signal(moment, signum), **options)
    assert code == status
    assert trainer.global_step < ended.global_step
    assert capfd.readouterr().err.count("stopping after this step, with a checkpoint") == 1
    last = tmp_path / "stopped/checkpoints/last.ckpt"
    assert f"--ckpt_path {last}" in caplog.text
    assert ("stopped by SIGTERM" in caplog.text) == (status == 143)
    resumed, code, trainer = train(tmp_path / "stopped", policy_folder, resume="last", **options)
    assert code is None
    assert trainer.global_step == ended.global_step
    assert_goes_on(whole, stopped, resumed)
    assert trainer.callback_metrics["val/loss"] == ended.callback_metrics["val/loss"]
    assert signal.getsignal(signum) is before


def slurm(monkeypatch, folder, status=0):
    """The environment of a job, and what is asked of SLURM in a file."""
    asked = folder / "asked.txt"
    (folder / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {asked}\nexit {status}\n')
    (folder / "scontrol").chmod(0o755)
    job = {"NTASKS": "1", "JOB_ID": "77", "JOB_NAME": "mine", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    for name, value in job.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return asked


def test_a_job_that_slurm_begins_again_goes_on_as_if_it_had_not_been(policy_folder, tmp_path, monkeypatch, caplog):
    """Lightning 2.6 stores where the signal comes; the row of that moment counts as trained, and changes no weight."""
    caplog.set_level(logging.INFO, "lit_longpo")
    whole, _, _ = train(tmp_path / "whole", policy_folder)
    asked = slurm(monkeypatch, tmp_path)
    stopped, code, trainer = train(tmp_path / "run", policy_folder, Signal("in a step", signal.SIGUSR1))
    assert (code, trainer.global_step) == (128 + signal.SIGUSR1, 3)
    assert "stopped by SIGUSR1 at step 3" in caplog.text
    assert asked.read_text() == "requeue 77\n"
    assert [path.name for path in (tmp_path / "run").glob("*.ckpt")] == ["hpc_ckpt_1.ckpt"]
    resumed, code, _ = train(tmp_path / "run", policy_folder)  # the same command
    assert code is None
    assert_goes_on(whole, stopped, resumed)


def test_before_the_first_step_a_job_is_begun_again_too(tmp_path, monkeypatch, caplog):
    asked = slurm(monkeypatch, tmp_path, status=1)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "5")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    signals = StopSignals(SimpleNamespace(is_global_zero=True, _has_begun=lambda: False))
    with pytest.raises(SystemExit):
        signals._slurm_sigusr_handler_fn(signal.SIGUSR1, None)
    assert asked.read_text() == "requeue 5_3\n"
    assert "type: scontrol requeue 5_3" in caplog.text


@pytest.mark.parametrize("signum", [signal.SIGUSR1, signal.SIGINT])
def test_a_data_loader_leaves_signals_to_the_run(signum, tmp_path, monkeypatch):
    """SLURM signals all processes of a job; each worker had it begun again before there was a checkpoint."""
    asked = slurm(monkeypatch, tmp_path)
    signals = StopSignals(SimpleNamespace(is_global_zero=True, _has_begun=lambda: False))
    handler = signals._ask if signum == signal.SIGINT else signals._slurm_sigusr_handler_fn
    if (worker := os.fork()) == 0:
        status = 1
        try:
            handler(signum, None)
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == 0
    assert not asked.exists()


def test_a_second_signal_does_not_wait(policy_folder, tmp_path):
    twice = Signal("in a step", signal.SIGTERM, signal.SIGTERM)
    losses, code, trainer = train(tmp_path, policy_folder, twice, limit_val_batches=0)
    assert (code, len(losses.values), trainer.global_step) == (143, 2, 2)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_before_the_first_row_there_is_nothing_to_write(policy_folder, tmp_path, capfd):
    class Early(Callback):
        def on_fit_start(self, *_):
            os.kill(os.getpid(), signal.SIGTERM)

    assert train(tmp_path, policy_folder, Early())[1] == 143
    assert "SIGTERM: stopped before the first step; the same command begins again\n" in capfd.readouterr().err
    assert not list(tmp_path.rglob("*.ckpt"))


def test_an_interrupt_that_comes_at_once_has_its_status_too(policy_folder, tmp_path):
    class Raises(Callback):
        def on_train_batch_start(self, *_):
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    try:
        assert train(tmp_path, policy_folder, Raises())[1] == 130
    finally:
        signal.signal(signal.SIGINT, before)  # Lightning ignores it from then on


@pytest.mark.parametrize("name", ["build", "evaluate", "fit", "export"])
def test_an_interrupted_command_says_so_in_one_line(name, monkeypatch, capsys):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setitem(command.COMMANDS, name, interrupted)
    with pytest.raises(SystemExit) as stop:
        command.main([name, "anything"])
    assert stop.value.code == 130
    assert capsys.readouterr().err == "interrupted: what was written stays, and the same command goes on\n"


def on_two_ranks(folder, policy_folder, rank, name, options):
    def strategy():  # each trainer its own
        return name if name == "ddp" else ModelParallelStrategy(2, 1, process_group_backend="gloo")

    whole, _, ended = train(folder / "whole", policy_folder, strategy=strategy(), **options)
    asked = Signal("in a step", signal.SIGTERM, rank=rank)
    stopped, code, _ = train(folder / "stopped", policy_folder, asked, strategy=strategy(), **options)
    assert code == 143, code
    resumed, code, trainer = train(folder / "stopped", policy_folder, strategy=strategy(), resume="last", **options)
    assert (code, trainer.global_step) == (None, ended.global_step)
    assert stopped.values + resumed.values == pytest.approx(whole.values, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "rank", "options"),
    [("ddp", 0, {}), ("ddp", 1, ONE_STEP), ("ddp", 1, {}), ("fsdp2", 0, {}), ("fsdp2", 1, {})],
)
def test_one_rank_that_is_asked_stops_all_at_the_same_step(strategy, rank, options, policy_folder, tmp_path):
    run_ranks(on_two_ranks, tmp_path, policy_folder, rank, strategy, options)


def test_processes_that_were_started_are_ended_with_this_one_and_not_asked_twice():
    """A process group gets a signal as a whole: a second one from the first process would end the others at once."""
    sent = []
    strategy = SimpleNamespace(launcher=SimpleNamespace(kill=sent.append))
    signals = StopSignals(SimpleNamespace(strategy=strategy, _has_begun=lambda: True))
    signals._ask(signal.SIGTERM, None)
    assert sent == []
    with pytest.raises(SystemExit, match="143"):
        signals._ask(signal.SIGTERM, None)
    assert sent == [signal.SIGTERM]
