"""A run that is stopped while averaged weights are validated keeps both, each under its own name."""

import os
import signal

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from support.line import Line
from support.quiet_cpu import QUIET_CPU
from torchdata.stateful_dataloader import StatefulDataLoader

from lit_longpo.checkpoints import ResumableTrainer

DECAY, STEPS = 0.5, 2  # one down with every step


class Validated(Line):
    def validation_step(self, batch, number):
        self.validated = float(self.weight.detach())


class Stop(Callback):
    def on_validation_batch_end(self, trainer, *_):
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("first", ["average", "stop"])
def test_weights_of_training_and_average_are_not_exchanged(first, tmp_path):
    average, module, rows = EMAWeightAveraging(decay=DECAY), Validated(), torch.ones(5)
    others = [average, Stop()] if first == "average" else [Stop(), average]
    trainer = ResumableTrainer(
        **QUIET_CPU, max_epochs=1, num_sanity_val_steps=0, val_check_interval=STEPS, default_root_dir=tmp_path,
        callbacks=[ModelCheckpoint(tmp_path, save_last=True), *others],
    )  # fmt: skip
    with pytest.raises(SystemExit):
        trainer.fit(module, StatefulDataLoader(rows), StatefulDataLoader(rows[:3]))
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == STEPS
    assert checkpoint["current_model_state"]["weight"] == -STEPS
    assert checkpoint["state_dict"]["weight"] == module.validated == -1.5  # -1, then half way to -2
