"""When the first pairs are watched: from a validation before training on, over a resume, and said once."""

import csv
import json
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from support.preference_data import RandomPairs, row_metrics

from data_modules import SyntheticDataModule
from lit_longpo.checkpoints import ResumableTrainer
from lit_longpo.objectives import SFT, SimPO
from lit_longpo.optimization import Optimization
from lit_longpo.policy import PolicyConfig, PromptTemplate
from lit_longpo.training.first_pairs import FirstPairs

SAID = "in {} of the first {} pairs"
VIEWS = SimPO().views


def trainer(step=0):
    return SimpleNamespace(is_global_zero=True, loggers=[], logger=None, log_dir=None, global_step=step)


def test_pairs_of_the_validation_before_training_are_the_first(caplog):
    pairs = FirstPairs()
    pairs.begin(VIEWS)
    pairs.add(row_metrics(*[1] * 20))
    pairs.watch(VIEWS, trainer())
    pairs.add(row_metrics(*[1] * 20))
    pairs.look(trainer())
    assert SAID.format("100%", 40) in caplog.text
    caplog.clear()
    pairs.add(row_metrics(*[-1] * 40))  # the policy is no untrained one any more
    pairs.end(trainer())
    assert not caplog.text


def test_a_short_run_says_what_it_has_seen(caplog):
    pairs = FirstPairs()
    pairs.watch(VIEWS, trainer())
    pairs.add(row_metrics(*[1] * 16))
    pairs.look(trainer())
    assert not caplog.text
    pairs.end(trainer())
    assert SAID.format("100%", 16) in caplog.text


@pytest.mark.parametrize("known", [True, False])
def test_a_resumed_run_counts_on_from_its_checkpoint_or_not_at_all(known, caplog):
    """A checkpoint of before holds no pairs, and the policy that goes on is no untrained one."""
    before, after = FirstPairs(), FirstPairs()
    before.watch(VIEWS, trainer())
    before.add(row_metrics(*[1] * 20))
    after.load(json.loads(json.dumps(before.state())) if known else None)
    after.watch(VIEWS, trainer(step=2))
    after.add(row_metrics(*[1] * 20), step=0)
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


def trained(folder, lr, *, asked=True, module=SimPO, **options):
    """Losses of four steps of four pairs each, and what `data_report.json` says of the pairs."""
    seed_everything(0, verbose=False)
    policy = PolicyConfig(template=PromptTemplate("{context} Complete: {question} "))
    optimizer = partial(torch.optim.SGD, lr=lr)
    objective = module(policy=policy, optimization=Optimization(optimizer, "constant", 0.0), **options)
    data = SyntheticDataModule(
        num_train=40, num_val=0, short_words=16, long_words=(24, 32), max_examples=4,
        views=objective.views, prompt_format=policy.prompt_format(),
    )  # fmt: skip
    if not asked:
        data.first_rows = None
    trainer = ResumableTrainer(
        max_steps=4, accelerator="cpu", logger=CSVLogger(folder, "run", ""), default_root_dir=folder,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False, log_every_n_steps=1,
        enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(objective, data)
    rows = csv.DictReader((folder / "run" / "metrics.csv").read_text().splitlines())
    losses = [row["train/loss"] for row in rows if row["train/loss"]]
    return losses, json.loads((folder / "run" / "data_report.json").read_text()).get("difficulty")


def test_the_first_pairs_are_asked_before_the_first_step(tmp_path):
    """Whatever the rate, the untrained policy is one; four steps had moved it. Training is the same as without."""
    slow, found = trained(tmp_path / "slow", 1e-4)
    fast, same = trained(tmp_path / "fast", 1.0)
    assert slow[1:] != fast[1:]
    assert found == same
    assert (found["pairs"], found["within_steps"]) == (16, 0)  # no more than are trained on
    unasked, watched = trained(tmp_path / "watched", 1.0, asked=False)
    assert unasked == fast
    assert watched["within_steps"] == 3
    assert watched["median_margin"] != found["median_margin"]


def test_nothing_follows_what_was_asked(caplog):
    """Sixteen pairs, as many as two steps have; a run that goes on for longer has no untrained policy for more."""
    about = trainer()
    about.datamodule = SimpleNamespace(first_rows=lambda number: iter([row_metrics(*[1] * 8)] * 9))
    about.strategy = SimpleNamespace(batch_to_device=lambda batch: batch)
    about.precision_plugin = SimpleNamespace(forward_context=nullcontext)
    about.max_steps, about.accumulate_grad_batches, about.fast_dev_run = 2, 1, False
    before, after = FirstPairs(), FirstPairs()
    before.watch(VIEWS, about)
    before.ask(lambda batch: batch, torch.nn.Linear(1, 1), about)
    assert SAID.format("100%", 16) in caplog.text
    caplog.clear()
    after.load(json.loads(json.dumps(before.state())))
    after.watch(VIEWS, trainer(step=2))
    after.add(row_metrics(*[-1] * 40), step=2)
    after.look(trainer(step=3))
    after.end(trainer(step=3))
    assert caplog.text.count("of the first") == caplog.text.count(SAID.format("100%", 16)) == 1


def test_nothing_is_asked_where_no_answers_are_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(SyntheticDataModule, "first_rows", lambda *_: pytest.fail("asked"))
    assert trained(tmp_path, 0.1, module=SFT)[1] is None
