"""When the first pairs are watched: from a validation before training on, over a resume, and said once."""

import csv
import json
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from support.preference_data import RandomPairs

from lit_longpo.checkpoints import ResumableTrainer
from lit_longpo.objectives import SimPO
from lit_longpo.policy import PolicyConfig
from lit_longpo.training.first_pairs import FirstPairs

SAID = "in {} of the first {} pairs"
VIEWS = SimPO().views


def row(*margins):
    margins = torch.tensor(margins, dtype=torch.float32)
    return {"rewards/margins": margins, "logps/chosen": margins - 5.0, "logps/rejected": margins * 0 - 4.5}


def trainer(step=0):
    return SimpleNamespace(is_global_zero=True, loggers=[], logger=None, log_dir=None, global_step=step)


def test_pairs_of_the_validation_before_training_are_the_first(caplog):
    pairs = FirstPairs()
    pairs.begin(VIEWS)
    pairs.add(row(*[1] * 20))
    pairs.watch(VIEWS, trainer())
    pairs.add(row(*[1] * 20))
    pairs.look(trainer())
    assert SAID.format("100%", 40) in caplog.text
    caplog.clear()
    pairs.add(row(*[-1] * 40))  # the policy is no untrained one any more
    pairs.end(trainer())
    assert not caplog.text


def test_a_short_run_says_what_it_has_seen(caplog):
    pairs = FirstPairs()
    pairs.watch(VIEWS, trainer())
    pairs.add(row(*[1] * 16))
    pairs.look(trainer())
    assert not caplog.text
    pairs.end(trainer())
    assert SAID.format("100%", 16) in caplog.text


@pytest.mark.parametrize("known", [True, False])
def test_a_resumed_run_counts_on_from_its_checkpoint_or_not_at_all(known, caplog):
    """A checkpoint of before holds no pairs, and the policy that goes on is no untrained one."""
    before, after = FirstPairs(), FirstPairs()
    before.watch(VIEWS, trainer())
    before.add(row(*[1] * 20))
    after.load(json.loads(json.dumps(before.state())) if known else None)
    after.watch(VIEWS, trainer(step=2))
    after.add(row(*[1] * 20), step=0)
    after.look(trainer())
    after.end(trainer())
    assert (SAID.format("100%", 40) in caplog.text) == known
    assert bool(caplog.text) == known


def test_a_resumed_run_says_what_the_untrained_policy_made_of_the_first_pairs(policy_folder, tmp_path):
    """Killed between two of the first rows, which hold 10 pairs each; and after they were said."""

    def difficulty(steps, resume=None):
        folder = tmp_path / f"{steps} from {resume and resume.stem}"
        module = SimPO(policy=PolicyConfig(source=str(policy_folder)))
        trainer = ResumableTrainer(
            max_steps=steps, max_epochs=-1, accelerator="cpu", logger=TensorBoardLogger(folder, None, ""),
            enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False, limit_val_batches=0,
            callbacks=[ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)],
        )  # fmt: skip
        folder.mkdir()
        (folder / "data_report.json").write_text("{}")
        trainer.fit(module, datamodule=RandomPairs(module.views, 60, 10), ckpt_path=resume)
        return json.loads((folder / "data_report.json").read_text()).get("difficulty")

    whole = difficulty(5)
    assert whole["pairs"] == 40
    assert difficulty(5, tmp_path / "step=2.ckpt") == whole
    assert difficulty(6, tmp_path / "step=5.ckpt") == whole


def test_a_run_that_goes_on_where_it_was_logged_does_not_log_them_again(policy_folder, tmp_path):
    """A named `CSVLogger` had a second row; a logger that was not there before has its first."""

    def rows(steps, *names, resume=None):
        module = SimPO(policy=PolicyConfig(source=str(policy_folder)))
        loggers = [CSVLogger(tmp_path, "rows", version=name) for name in names]
        trainer = ResumableTrainer(
            max_steps=steps, max_epochs=-1, accelerator="cpu", logger=loggers, enable_progress_bar=False,
            enable_model_summary=False, use_distributed_sampler=False, limit_val_batches=0, log_every_n_steps=1,
            callbacks=[ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)],
        )  # fmt: skip
        trainer.fit(module, datamodule=RandomPairs(module.views, 60, 10), ckpt_path=resume)
        found = [csv.DictReader((tmp_path / "rows" / name / "metrics.csv").open()) for name in names]
        return [[row["data/ranked_right_before_training"] for row in one if row["step"] == "0"] for one in found]

    [first] = rows(5, "a")
    [said] = [share for share in first if share]
    for name, share in (("a", said), ("b", said)):
        [again] = [[each for each in one if each] for one in rows(6, name, resume=tmp_path / "step=5.ckpt")]
        assert again == [share]
