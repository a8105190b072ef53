"""A run that was stopped just before a validation, or before its end, catches up when it goes on."""

import csv

import pytest
import torch
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.callbacks import GradientAccumulationScheduler, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from support import resume_worker
from support.preference_data import RandomPairs
from transformers import AutoModelForCausalLM

from lit_longpo.callbacks import SavePretrained
from lit_longpo.checkpoints import ResumableTrainer, read_weights
from lit_longpo.objectives import ORPO
from lit_longpo.policy import PolicyConfig

EPOCH = 5  # rows


class Validations(Callback):
    """The loss of every validation, by step."""

    def __init__(self):
        self.losses = {}

    def on_train_epoch_start(self, trainer, module):
        assert trainer.current_epoch <= trainer.max_steps  # no epochs without rows

    def on_train_end(self, trainer, module):
        trainer.save_checkpoint(f"{trainer.default_root_dir}/end.ckpt")

    def on_validation_end(self, trainer, module):
        assert trainer.global_step not in self.losses
        assert trainer.num_val_batches == [3]
        self.losses[trainer.global_step] = float(trainer.callback_metrics["val/loss"])


def run(folder, checkpoint=None, steps=EPOCH, epochs=-1, **options):
    """Losses of training and of validation by step; checkpoints come before validations."""
    module, data = resume_worker.parts(resume_worker.POLICIES["lora"], "single")
    data.sizes["val"] = 20  # three rows: a validation that goes on would have fewer
    losses, validations = resume_worker.Losses(), Validations()
    save = ModelCheckpoint(folder / "checkpoints", "{step}", every_n_train_steps=1, save_top_k=-1)
    write = SavePretrained(str(folder / "model"))
    callbacks = (losses, validations, write, *([] if checkpoint else [save]))
    trainer = resume_worker.trainer_for("single", folder, *callbacks, steps=steps, **options)
    trainer.limit_val_batches = 1.0
    trainer.fit_loop.max_epochs = epochs
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint)
    return losses.values, validations.losses


def test_a_checkpoint_saved_when_max_steps_had_ended_the_training_goes_on(tmp_path):
    """As `save_last` does in a run shorter than `every_n_train_steps`: the one epoch counted as over."""
    run(tmp_path / "two", steps=2, epochs=1)
    losses, validations = run(tmp_path / "more", tmp_path / "two/end.ckpt", epochs=1)
    assert (len(losses), list(validations)) == (EPOCH - 2, [EPOCH])


@pytest.mark.parametrize(
    ("options", "steps", "validated"),
    [
        ({"val_check_interval": 0.5}, 5, [2, 4]),
        ({"val_check_interval": 3, "check_val_every_n_epoch": None}, 6, [3, 6]),
    ],
)
@pytest.mark.slow
def test_no_validation_is_lost_and_none_is_done_twice(options, steps, validated, tmp_path):
    losses, validations = run(tmp_path / "whole", steps=steps, **options)
    assert list(validations) == validated
    for stopped in range(1, steps):
        checkpoint = tmp_path / f"whole/checkpoints/step={stopped}.ckpt"
        resumed = run(tmp_path / "resumed", checkpoint, steps=steps, **options)
        rest = {step: loss for step, loss in validations.items() if step >= stopped}
        assert resumed == (losses[stopped:], rest), stopped


def test_an_epoch_without_a_validation_gets_none_after_a_resume(tmp_path):
    """What is saved behind its last row counts it as over, and Lightning would go by the next epoch's number."""
    run(tmp_path / "one", steps=2 * EPOCH, epochs=1, check_val_every_n_epoch=2)
    losses, validations = run(
        tmp_path / "more", tmp_path / "one/end.ckpt", steps=2 * EPOCH, epochs=2, check_val_every_n_epoch=2
    )
    assert (len(losses), list(validations)) == (EPOCH, [2 * EPOCH])


def test_a_checkpoint_of_a_validation_is_not_validated_again(tmp_path):
    module, data = resume_worker.parts(resume_worker.POLICIES["lora"], "single")
    save = ModelCheckpoint(tmp_path / "checkpoints", "{step}", save_top_k=-1)  # when a validation ends
    trainer = resume_worker.trainer_for("single", tmp_path, save, steps=EPOCH, val_check_interval=0.5)
    trainer.fit(module, datamodule=data)
    _, validations = run(tmp_path, tmp_path / "checkpoints/step=2.ckpt", val_check_interval=0.5)
    assert list(validations) == [4]


def test_a_finished_run_validates_and_writes_its_model(tmp_path):
    _, validations = run(tmp_path / "whole")
    checkpoint = tmp_path / f"whole/checkpoints/step={EPOCH}.ckpt"
    assert list(validations) == [EPOCH]
    assert run(tmp_path / "again", checkpoint) == ([], validations)
    written, expected = (
        AutoModelForCausalLM.from_pretrained(tmp_path / name / "model").state_dict() for name in ("again", "whole")
    )
    trained = {name.rpartition("base_model.model.")[2] for name in read_weights(checkpoint)}
    assert trained
    assert written.keys() == expected.keys()
    assert all(torch.equal(written[name], weight) for name, weight in expected.items())


@pytest.mark.parametrize("due", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_finished_run_that_was_started_again_goes_on_with_more_steps(due, tmp_path):
    run(tmp_path / "whole")
    assert run(tmp_path / "again", tmp_path / "whole/end.ckpt") == ([], {})
    contents = torch.load(tmp_path / "again/end.ckpt", weights_only=False)
    assert not contents["validation_due"]
    torch.save({**contents, "validation_due": due}, tmp_path / "end.ckpt")
    losses, validations = run(tmp_path / "more", tmp_path / "end.ckpt", steps=EPOCH + 2)
    assert (len(losses), list(validations)) == (2, [EPOCH] if due else [])


def test_a_schedule_of_accumulation_goes_on_in_the_middle_of_an_epoch(tmp_path):
    """Lightning 2.6 asks it where an epoch begins: the rest of this one would have had a step for every row."""

    def trained(folder, checkpoint=None):
        module, data = resume_worker.parts(resume_worker.POLICIES["lora"], "single")
        save = ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1)
        callbacks = (GradientAccumulationScheduler({0: 4, 1: 2}), *([] if checkpoint else [save]))
        trainer = resume_worker.trainer_for("single", folder, *callbacks, steps=-1)
        trainer.fit_loop.max_epochs = 2
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint)
        assert trainer.global_step == 5  # of five rows: two in the first epoch, three in the second
        return module.model.state_dict()

    whole, resumed = trained(tmp_path / "whole"), trained(tmp_path / "resumed", tmp_path / "whole/step=3.ckpt")
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())


def logged(folder, steps, checkpoint=None, **options):
    """Steps under which losses are logged, and the checkpoints: one of every step, one of the end."""
    module = ORPO(policy=PolicyConfig(weights="random"))
    save = ModelCheckpoint(folder, "{step}", save_last=True, save_top_k=-1, every_n_train_steps=1)
    logger = CSVLogger(folder)
    trainer = ResumableTrainer(
        accelerator="cpu", max_steps=steps, logger=logger, log_every_n_steps=1, callbacks=[save],
        default_root_dir=folder, num_sanity_val_steps=0, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, check_val_every_n_epoch=None, **options,
    )  # fmt: skip
    trainer.fit(module, datamodule=RandomPairs(module.views, num_examples=12), ckpt_path=checkpoint)
    trainer.save_checkpoint(folder / "end.ckpt")
    with open(folder / "lightning_logs" / f"version_{logger.version}" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [[int(row["step"]) for row in rows if row.get(name)] for name in ("train/loss", "val/loss")]


@pytest.mark.parametrize("rows", [1, 2])
def test_a_run_that_goes_on_logs_under_the_steps_that_it_would_have_had(rows, tmp_path):
    """Lightning#19403: behind a checkpoint of a training's end every step was logged as the next one."""
    seed_everything(0, verbose=False)
    options = {"accumulate_grad_batches": rows, "val_check_interval": 2 * rows}
    assert logged(tmp_path / "half", 4, **options) == [[0, 1, 2, 3], [1, 3]]
    for name, trained, validated in (
        ("end.ckpt", [4, 5], [5]),
        ("step=4.ckpt", [4, 5], [3, 5]),  # saved before the validation, which comes first
        ("step=3.ckpt", [3, 4, 5], [3, 5]),
    ):
        assert logged(tmp_path / name, 6, tmp_path / "half" / name, **options) == [trained, validated], name
