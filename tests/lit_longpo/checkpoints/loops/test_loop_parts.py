"""A Lightning whose loops have changed is said to be one, before it trains otherwise without a word."""

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

from lit_longpo.checkpoints import ResumableTrainer
from lit_longpo.checkpoints.loops.loop_parts import check_parts
from lit_longpo.errors import message_for_user


def test_the_lightning_that_is_installed_has_every_part(tmp_path):
    check_parts(Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path))


@pytest.mark.parametrize(
    ("loop", "name", "place"),
    [
        (_TrainingEpochLoop, "_should_check_val_fx", "fit_loop.epoch_loop"),
        (_FitLoop, "restarted_mid_epoch", "fit_loop"),
    ],
)
def test_a_part_that_is_gone_is_named_before_anything_is_trained(loop, name, place, monkeypatch, tmp_path):
    trainer = ResumableTrainer(accelerator="cpu", logger=False, default_root_dir=tmp_path)
    monkeypatch.delattr(loop, name)
    with pytest.raises(ValueError, match=rf"which has no `Trainer\.{place}\.{name}`; type: pip install") as error:
        trainer.fit(None)
    assert message_for_user(error.value)
