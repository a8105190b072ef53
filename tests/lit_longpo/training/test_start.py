"""What is said about a policy at the start, and by which process."""

import csv
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from support.command_line import CONFIGS
from support.preference_data import RandomPairs
from support.tiny_models import tiny_config

from lit_longpo import __main__ as command
from lit_longpo.errors import InputError
from lit_longpo.objectives import DPO, IPO, LOGO, ORPO, SFT, LongPO, SimPO, SoLoPO
from lit_longpo.optimization import Optimization
from lit_longpo.policy import PolicyConfig
from lit_longpo.training.start import (
    check_recorded,
    log_precision,
    log_short_run,
    warn_of_routers,
    warn_of_steps,
    warn_of_unkept,
    warn_of_warmup,
)


def test_states_of_fewer_bits_are_said_by_one_process(caplog, monkeypatch):
    monkeypatch.setattr("lit_longpo.training.start.in_words", lambda _: "states of 8 bits")
    caplog.set_level("INFO")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])
    log_precision(optimizer, SimpleNamespace(is_global_zero=False))
    assert not caplog.text
    log_precision(optimizer, SimpleNamespace(is_global_zero=True))
    assert "states of 8 bits" in caplog.text


@pytest.mark.parametrize(("fraction", "steps", "told"), [(0.03, 16, True), (0.03, 17, False), (0.0, 16, False)])
def test_a_warmup_of_less_than_half_a_step_is_told(fraction, steps, told, caplog):
    """Rounded to none, it was not said (deepmd-kit#5134); with what is typed then there is one."""
    parameter = torch.nn.Parameter(torch.zeros(2, 2))
    optimization = Optimization(warmup_fraction=fraction)
    _, schedule = optimization.build([parameter], steps)
    assert (schedule.get_last_lr()[0] > 0) == (told or not fraction)
    warn_of_warmup(SimpleNamespace(is_global_zero=True), optimization, steps)
    assert bool(caplog.text) == told
    if told:
        typed = float(caplog.text.partition("--optimization.warmup_fraction ")[2].split()[0])
        assert Optimization(warmup_fraction=typed).build([parameter], steps)[1].get_last_lr() == [0.0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "2 optimizer steps in all, which change little; type --trainer.accumulate_grad_batches 1 (a step has 8"),
        ({"accumulate_grad_batches": 1}, "which change little; type --trainer.max_epochs 3"),
        ({"max_steps": 2}, ""),  # wanted
        ({"max_steps": 50}, "`trainer.max_steps: 50` is not reached: the training ends with `trainer.max_epochs: 1`, "),
        ({"min_steps": 50}, "`trainer.min_steps: 50` is not reached: the training ends with 2 optimizer steps"),
        ({"min_steps": 2, "max_steps": 2}, ""),
        ({"limit_train_batches": 16}, ""),
        ({"limit_train_batches": 16, "max_steps": 16, "fast_dev_run": 16}, ""),
        ({"is_global_zero": False}, ""),
    ],
)
def test_few_steps_are_said_where_nobody_wants_so_few(change, said, caplog):
    trainer = {"max_steps": -1, "max_epochs": 1, "accumulate_grad_batches": 8, "limit_train_batches": 1.0}
    trainer |= {"fast_dev_run": False, "min_steps": None}
    warn_of_steps(SimpleNamespace(**{**trainer, "is_global_zero": True, **change}), 2)
    assert said in caplog.text
    assert bool(said) == bool(caplog.text)
    caplog.clear()
    warn_of_steps(SimpleNamespace(**trainer, is_global_zero=True), 10)
    assert not caplog.text


@pytest.mark.parametrize("asks", [True, False])
def test_a_router_loss_that_the_model_asks_for_and_nobody_adds_is_told(asks, tmp_path, caplog):
    """Settings with `output_router_logits` were trained without it, in silence (trl#2197)."""
    tiny_config("Mixtral", output_router_logits=asks).save_pretrained(tmp_path)
    warn_of_routers(PolicyConfig(source=str(tmp_path)))
    assert ("type --optimization.router_loss model" in caplog.text) == asks


@pytest.mark.parametrize(
    ("callbacks", "said"),
    [
        ([{"monitor": "val/loss"}], True),
        ([{"monitor": "val/loss", "save_top_k": 2}, {"monitor": "val/nll"}], True),
        ([{"monitor": "val/loss", "save_last": True}], False),
        ([{"monitor": "val/loss", "save_last": "link"}], False),
        ([{"monitor": "val/loss", "save_top_k": -1}], False),
        ([{"monitor": "step", "mode": "max"}], False),
        ([{"monitor": "val/loss"}, {"every_n_train_steps": 5}], False),
        ([{"monitor": "val/loss"}, {"save_top_k": 0}], True),  # the second keeps nothing
        ([{"monitor": "val/loss", "save_top_k": 0, "save_last": True}], False),
        ([{}], False),
        ([], False),
    ],
)
def test_a_training_whose_best_weights_alone_are_kept_is_told(callbacks, said, caplog):
    trainer = SimpleNamespace(
        checkpoint_callbacks=[ModelCheckpoint(**each) for each in callbacks], is_global_zero=True, fast_dev_run=False
    )
    warn_of_unkept(trainer)
    assert bool(caplog.text) == said
    assert ("those of the last step, from which a training goes on, will be in no checkpoint" in caplog.text) == said


@pytest.mark.parametrize("settings", [{}, {"monitor": "val/loss"}, {"every_n_train_steps": 2}])
def test_a_training_of_which_no_checkpoint_is_kept_is_told(settings, caplog):
    """It ended without a word, and with a monitor the best were said to be kept (Lightning#849: 0 saves none)."""
    trainer = SimpleNamespace(
        checkpoint_callbacks=[ModelCheckpoint(save_top_k=0, **settings)], is_global_zero=True, fast_dev_run=False
    )
    warn_of_unkept(trainer)
    assert "`save_top_k: 0` keeps no checkpoint" in caplog.text
    assert "best weights" not in caplog.text


@pytest.mark.parametrize(
    ("steps", "every", "logged", "said"),
    [
        (5, 10, 1, "the curve of 5 steps would have no point with `trainer.log_every_n_steps: 10`: it is 1"),
        (19, 10, 1, "the curve of 19 steps would have one point"),
        (60, 50, 6, "50`: it is 6"),
        (20, 10, 10, ""),
        (5, 1, 1, ""),
        (5, 0, 0, ""),  # nothing is to be logged
        (-1, 10, 10, ""),  # nobody knows
    ],
)
def test_a_short_run_is_logged_so_often_that_it_has_a_curve(steps, every, logged, said, caplog):
    caplog.set_level("INFO")
    trainer = SimpleNamespace(log_every_n_steps=every, loggers=[1], is_global_zero=True)
    log_short_run(trainer, steps)
    assert trainer.log_every_n_steps == logged
    assert said in caplog.text
    assert bool(said) == bool(caplog.text)


def test_an_interval_that_was_typed_stays_and_is_said_once(tmp_path, caplog):
    """It was lowered as a recipe's is."""
    small = ("--data.num_train", "30", "--data.max_examples", "2", "--trainer.max_steps", "5", "--trainer.callbacks")
    where = ("--trainer.default_root_dir", str(tmp_path), "--trainer.limit_val_batches", "0", "--trainer.logger")
    command.main(
        ["fit", "--config", str(CONFIGS / "orpo.yaml"), *small, "[]", *where, "CSVLogger",
         "--trainer.val_check_interval", "1.0", "--trainer.log_every_n_steps", "3"]
    )  # fmt: skip
    assert caplog.text.count("5 steps will have one point with `trainer.log_every_n_steps: 3`, as typed; type 1") == 1
    (metrics,) = tmp_path.rglob("metrics.csv")
    assert [int(line["step"]) for line in csv.DictReader(metrics.open()) if line.get("train/loss")] == [2]


def test_five_steps_are_five_points(policy_folder, tmp_path):
    module = ORPO(policy=PolicyConfig(source=str(policy_folder)))
    trainer = Trainer(
        max_steps=5, accelerator="cpu", logger=CSVLogger(tmp_path), log_every_n_steps=10, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(module, datamodule=RandomPairs(module.views, num_examples=10))
    lines = csv.DictReader((Path(trainer.log_dir) / "metrics.csv").open())
    assert [int(line["step"]) for line in lines if line.get("train/loss")] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("objective", [SFT, DPO, IPO, SimPO, ORPO, SoLoPO, LongPO, LOGO])
def test_every_argument_of_ours_is_recorded(objective):
    check_recorded(objective, {name for name, _ in objective().arguments()})


def test_arguments_that_are_passed_on_are_those_of_the_class_above():
    """`*args` was called an argument that no checkpoint knows."""

    class Own(ORPO):
        def __init__(self, *args, scale: float = 1.0, **module):
            super().__init__(*args, **module)
            self.scale = scale

    check_recorded(Own, {name for name, _ in Own(0.2).arguments()})


def test_an_argument_that_is_not_recorded_is_refused_before_the_policy_is_loaded(policy_folder, tmp_path):
    """A checkpoint of one `scale` was continued under another, as if it were the same run."""

    class Own(ORPO):
        def __init__(self, scale: float = 1.0, **module):
            super().__init__(**module)
            self._scale = scale

    module = Own(policy=PolicyConfig(source=str(policy_folder)))
    trainer = Trainer(max_steps=1, logger=False, enable_checkpointing=False, default_root_dir=tmp_path)
    with pytest.raises(InputError, match=r"for scale, .*`self.scale = scale`"):
        trainer.fit(module, datamodule=RandomPairs(module.views))
