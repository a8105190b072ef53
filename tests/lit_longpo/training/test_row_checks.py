"""Rows are the same list on every process; a validation after a time: one process does it, several cannot agree."""

import os
import random

import pytest
from lightning.pytorch import Callback, Trainer
from support.preference_data import RandomPairs
from support.ranks import run_ranks
from support.small_fit import STRATEGIES
from support.zero3 import needs_deepspeed
from torch.utils.data import DataLoader, IterableDataset

from data_modules import SyntheticDataModule
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


class Disordered(SyntheticDataModule):
    """Each process reads the pairs in an order of its own, as from a set of texts."""

    def pairs(self, split):
        found = list(super().pairs(split))
        random.Random(int(os.environ["RANK"])).shuffle(found)
        return found


def refused(module, data):
    """What a training on two processes says."""
    trainer = Trainer(max_epochs=1, devices=2, strategy="ddp", use_distributed_sampler=False, **OPTIONS)
    with pytest.raises(InputError) as error:
        trainer.fit(module, datamodule=data)
    return str(error.value)


def train_on_other_rows():
    """With other rows, and with the same in another order."""
    module = ORPO(policy=PolicyConfig(weights="random"))
    longer = RandomPairs(module.views, num_examples=4 + 2 * int(os.environ["RANK"]))
    words = {"short_words": 16, "long_words": (16, 24), "max_tokens": 512, "max_examples": 2}
    format_ = module.policy.prompt_format()
    disordered = Disordered(num_train=8, num_val=2, views=module.views, prompt_format=format_, **words)
    for data, rows in ((longer, 2), (disordered, 2)):
        said = refused(module, data)
        what = (
            f"expected the same training data in the same order, and {rows} rows an epoch, on each of the 2 processes"
        )
        assert f"{what}, got others on some: copy the same files to every machine, and sort what `pairs` of a" in said


def test_processes_that_have_read_other_data_are_refused():
    """One that has more rows waited for the others for ever; 18 of 24 examples were trained on, and 24 reported."""
    run_ranks(train_on_other_rows)


def train_on_shards():
    """Loaders of somebody's own, each of which has more rows than are asked for."""
    module = ORPO(policy=PolicyConfig(weights="random"))
    shard = RandomPairs(module.views, num_examples=4 + 2 * int(os.environ["RANK"]))
    shared = {"devices": 2, "strategy": "ddp", "use_distributed_sampler": False}
    trainer = Trainer(max_epochs=1, limit_train_batches=2, limit_val_batches=0, **shared, **OPTIONS)
    trainer.fit(module, datamodule=shard)
    assert trainer.global_step == 2


def test_processes_that_train_on_as_many_rows_of_their_own_are_not():
    """None waits for another: `limit_train_batches` ends each epoch before the shortest loader does."""
    run_ranks(train_on_shards)


class UnevenlyValidated(RandomPairs):
    """Loaders of somebody's own: the second process has a validation row more."""

    def val_dataloader(self):
        more = 2 * int(os.environ["RANK"])
        return RandomPairs(self.views, num_examples=4 + more)._loader()


def validate_on_other_rows(strategy, fit):
    module = ORPO(policy=PolicyConfig(weights="random"))
    options = {"max_epochs": 1, "limit_train_batches": 1, "num_sanity_val_steps": 0, "use_distributed_sampler": False}
    trainer = Trainer(devices=2, strategy=STRATEGIES[strategy](), **options, **OPTIONS)
    (trainer.fit if fit else trainer.validate)(module, datamodule=UnevenlyValidated(module.views))


def be_refused(*arguments):
    """In one line, on both."""
    what = r"expected as many validation or test rows on each of the 2 processes, which share the model or its rows"
    with pytest.raises(
        InputError, match=rf"^{what}, got 2 on the first and another.*, or set `trainer.limit_val_batches`"
    ):
        validate_on_other_rows(*arguments)


@pytest.mark.parametrize("fit", [True, False], ids=["fit", "validate"])
@pytest.mark.parametrize("strategy", ["fsdp2", pytest.param("zero3", marks=needs_deepspeed)])
def test_processes_that_share_a_model_validate_on_as_many_rows(strategy, fit):
    """The one with more rows waited for the other for ever."""
    run_ranks(be_refused, strategy, fit)


def test_whole_models_validate_on_rows_of_their_own():
    run_ranks(validate_on_other_rows, "ddp", True)


class Endless(RandomPairs):
    """Rows that come as they come."""

    def train_dataloader(self):
        class Rows(IterableDataset):
            def __iter__(self):
                return iter(())

        return DataLoader(Rows(), batch_size=None)


def test_a_loader_without_a_length_is_one_line(tmp_path):
    module = ORPO(policy=PolicyConfig(weights="random"))
    trainer = Trainer(max_steps=1, default_root_dir=tmp_path, **OPTIONS)
    with pytest.raises(InputError, match=r"got that of Endless, .*; give its data set a `__len__`"):
        trainer.fit(module, datamodule=Endless(module.views))
