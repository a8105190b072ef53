"""What a checkpoint and a model card say of a run."""

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from support.preference_data import RandomPairs

from data_modules import MixtureDataModule, SyntheticDataModule
from lit_longpo.callbacks import SavePretrained
from lit_longpo.checkpoints import ResumableTrainer
from lit_longpo.checkpoints.record import contradictions, is_slight, run_settings
from lit_longpo.objectives import SFT
from lit_longpo.policy import PolicyConfig


def test_shares_of_a_mixture_are_settings_that_a_run_goes_on_with_and_says():
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False)
    then, now = (
        run_settings(trainer, None, MixtureDataModule({"a": SyntheticDataModule()}, weights, smaller))
        for weights, smaller in (({"a": 1.0}, "repeat"), ({"a": 2.0}, "stop"))
    )
    differing = contradictions({"settings": then}, now)
    assert differing == {"data.weights": ({"a": 1.0}, {"a": 2.0}), "data.smaller": ("repeat", "stop")}
    assert all(map(is_slight, differing))


@pytest.mark.parametrize(
    ("name", "then", "now", "said"),
    [
        ("limit_train_batches", 1.0, 1, True),
        ("limit_train_batches", 1, 1.0, True),
        ("limit_train_batches", 5, 5, False),
        ("overfit_batches", 0.0, 0, False),
        ("overfit_batches", 0.0, 1, True),
        ("gradient_clip_val", 1.0, 1, False),
        ("gradient_clip_algorithm", None, "norm", False),
        ("gradient_clip_algorithm", None, "value", True),
    ],
)
def test_one_row_is_not_all_of_them_and_clipping_goes_by_the_norm_where_nothing_is_said(name, then, now, said):
    """`1` is one row, `1.0` all of them; Python calls them equal."""
    differing = contradictions({"settings": {f"trainer.{name}": then}}, {f"trainer.{name}": now})
    assert differing == ({f"trainer.{name}": (then, now)} if said else {})


def card(folder, policy_folder, steps, resume=None):
    """The model card's numbers, by name."""
    module = SFT(policy=PolicyConfig(source=str(policy_folder)))
    save = ModelCheckpoint(folder, "{step}", every_n_train_steps=2, save_top_k=-1)
    trainer = ResumableTrainer(
        max_steps=steps, max_epochs=-1, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, num_sanity_val_steps=0, limit_val_batches=1,
        val_check_interval=2, check_val_every_n_epoch=None, default_root_dir=folder,
        callbacks=[save, SavePretrained(str(folder / "model"))],
    )  # fmt: skip
    trainer.fit(module, datamodule=RandomPairs(module.views, num_examples=12), ckpt_path=resume)
    rows = [line.strip("| ").split(" | ") for line in (folder / "model/README.md").read_text().splitlines()]
    return {row[0]: row[1] for row in rows if len(row) == 2 and row[0].startswith(("train/", "val/"))}


def test_a_run_that_was_over_when_it_was_killed_has_the_card_of_the_whole_one(policy_folder, tmp_path):
    """Killed in the last validation: nothing is left to train, and the last step's numbers are the checkpoint's."""
    whole = card(tmp_path, policy_folder, 2)
    assert {"train/loss", "val/loss"} <= whole.keys()
    assert card(tmp_path, policy_folder, 2, tmp_path / "step=2.ckpt") == whole
    more = card(tmp_path, policy_folder, 4, tmp_path / "step=2.ckpt")
    assert more["train/loss"] != whole["train/loss"]
