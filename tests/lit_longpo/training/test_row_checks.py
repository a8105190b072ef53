"""A validation after a time: one process does it, several cannot agree on it."""

import pytest
from lightning.pytorch import Callback, Trainer
from support.preference_data import RandomPairs

from lit_longpo.errors import InputError
from lit_longpo.objectives import ORPO
from lit_longpo.policy import PolicyConfig
from lit_longpo.training.row_checks import check_rows

OPTIONS = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}


class Validations(Callback):
    """Their steps."""

    def __init__(self):
        self.steps = []

    def on_validation_end(self, trainer, module):
        self.steps.append(trainer.global_step)


def test_a_validation_comes_after_a_time(tmp_path):
    """It was an AttributeError: Lightning 2.6 leaves `val_check_interval` out of a trainer that is told a time."""
    seen, module = Validations(), ORPO(policy=PolicyConfig(weights="random"))
    trainer = Trainer(
        max_steps=2, val_check_interval={"seconds": 0}, num_sanity_val_steps=0, default_root_dir=tmp_path,
        callbacks=[seen], enable_model_summary=False, **OPTIONS,
    )  # fmt: skip
    trainer.fit(module, datamodule=RandomPairs(module.views))
    assert seen.steps == [1, 2]


def test_processes_do_not_validate_by_their_own_clocks():
    trainer = Trainer(devices=2, strategy="ddp", val_check_interval="00:00:10:00", **OPTIONS)
    with pytest.raises(InputError, match=r"with 2 processes, got 600 seconds.*type --trainer.val_check_interval 0.5"):
        check_rows(trainer, PolicyConfig())
