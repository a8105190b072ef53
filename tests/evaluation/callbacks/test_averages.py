"""What is measured beside averaged weights is what is validated and saved."""

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from support.line import Line
from support.quiet_cpu import QUIET_CPU
from torch.utils.data import DataLoader

from evaluation.callbacks.scheduled import ScheduledCallback

DECAY = 0.5


class Validated(Line):
    """Remembers the weights that it was validated with, by steps."""

    def __init__(self):
        super().__init__()
        self.validated = {}

    def validation_step(self, batch, number):
        self.validated[self.global_step] = float(self.weight)


class Measured(ScheduledCallback):
    """The weight, by steps."""

    name = "weight"

    def __init__(self):
        super().__init__()
        self.seen = {}

    def measure(self, trainer, pl_module):
        self.seen[trainer.global_step] = float(pl_module.weight)


def average(step):
    """By hand: the weight is -step, and the average begins with it where it is first updated."""
    mean = -1.0
    for number in range(2, step + 1):
        mean = DECAY * mean - (1 - DECAY) * number
    return mean


@pytest.mark.parametrize("first", [True, False])
def test_scores_are_those_of_the_average_wherever_its_callback_is_listed(first, tmp_path):
    """Of callbacks listed behind it they were those of the weights of training (the callback of Lightning#20545)."""
    measured, averaging, module = Measured(), EMAWeightAveraging(decay=DECAY), Validated()
    keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=2, save_top_k=-1)
    callbacks = [averaging, measured] if first else [measured, averaging]
    trainer = Trainer(
        **QUIET_CPU, max_epochs=1, val_check_interval=2, num_sanity_val_steps=0, default_root_dir=tmp_path,
        callbacks=[*callbacks, keep],
    )  # fmt: skip
    trainer.fit(module, DataLoader(torch.ones(5), batch_size=1), DataLoader(torch.ones(1)))
    assert measured.seen == {0: 0.0, 2: average(2), 4: average(4), 5: average(5)}
    assert module.validated == {2: average(2), 4: average(4)}
    saved = torch.load(tmp_path / "step=4.ckpt", weights_only=True)
    assert float(saved["state_dict"]["weight"]) == average(4)
    assert float(saved["current_model_state"]["weight"]) == -4.0
    assert float(module.weight) == average(5)
