import csv
import json
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import MixedPrecision
from support.groups import random_groups
from support.preference_data import RandomPairs
from transformers import AutoModelForCausalLM, AutoTokenizer

from lit_longpo.callbacks import NonFiniteGuard, SavePretrained, ThroughputCallback
from lit_longpo.callbacks.non_finite import NonFiniteError
from lit_longpo.engine import pack, score
from lit_longpo.objectives import ORPO
from lit_longpo.optimization import Optimization
from lit_longpo.policy import LoRA, PolicyConfig


def fit(folder, policy_folder, *callbacks, steps=4, module=None, **options):
    seed_everything(0, verbose=False)
    module = module or ORPO(policy=PolicyConfig(source=str(policy_folder)))
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=CSVLogger(folder),
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
        **options,
    )
    trainer.fit(module, datamodule=RandomPairs(module.views))
    return trainer, module


def test_throughput_and_memory_are_logged(policy_folder, tmp_path):
    trainer, _ = fit(tmp_path, policy_folder, ThroughputCallback(every_n_steps=2))
    metrics = trainer.callback_metrics
    assert metrics["perf/tokens_per_second"] > 0
    assert metrics["perf/step_seconds"] > 0
    assert 0.05 < metrics["perf/peak_memory_gib"] < 64


def test_rates_are_logged_when_validation_is_more_frequent(policy_folder, tmp_path):
    seed_everything(0, verbose=False)
    module = ORPO(policy=PolicyConfig(source=str(policy_folder)))
    trainer = Trainer(
        max_steps=4,
        accelerator="cpu",
        logger=CSVLogger(tmp_path),
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        val_check_interval=1,
        num_sanity_val_steps=0,
        callbacks=[ThroughputCallback(every_n_steps=3)],
    )
    data = RandomPairs(module.views)
    trainer.fit(module, data.train_dataloader(), data.train_dataloader())
    assert trainer.callback_metrics["perf/tokens_per_second"] > 0


class Norms(Callback):
    """Of all gradients as one vector, where the last one has come."""

    def __init__(self):
        self.values = []

    def on_after_backward(self, trainer, module):
        grads = [parameter.grad.flatten() for parameter in module.parameters() if parameter.grad is not None]
        self.values.append(torch.cat(grads).norm().item())


def test_learning_rate_and_gradient_norm_are_logged_at_every_step(policy_folder, tmp_path):
    norms, optimization = Norms(), Optimization(schedule="linear", warmup_fraction=0.5)
    module = ORPO(policy=PolicyConfig(source=str(policy_folder)), optimization=optimization)
    trainer, _ = fit(tmp_path, policy_folder, NonFiniteGuard(), norms, module=module, gradient_clip_val=1e-3)
    lines = list(csv.DictReader((Path(trainer.log_dir) / "metrics.csv").open()))
    names = ("train/gradient_norm", "train/learning_rate")
    logged, rates = ([float(line[name]) for line in lines if line[name]] for name in names)
    assert logged == pytest.approx(norms.values)  # before clipping
    peak = optimization.defaults["lr"]
    assert rates == pytest.approx([0.0, peak / 2, peak, peak / 2])


class Spoiled(ORPO):
    """The third row's loss is not a number."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return loss * float("nan") if batch_idx == 2 else loss


def test_the_guard_stops_before_the_weights_are_spoiled_and_names_the_records(policy_folder, tmp_path):
    module = Spoiled(policy=PolicyConfig(source=str(policy_folder)))
    with pytest.raises(NonFiniteError, match=r"record-4.*gradient_clip_val"):
        fit(tmp_path, policy_folder, NonFiniteGuard(), module=module)
    assert all(torch.isfinite(parameter).all() for parameter in module.parameters())
    report = json.loads(next(tmp_path.rglob("non_finite.json")).read_text())
    assert report["records"] == ["record-4", "record-5"]
    assert report["step"] == 2


def test_a_guard_that_does_not_wait_stops_a_step_later_and_before_any_checkpoint(policy_folder, tmp_path):
    module = Spoiled(policy=PolicyConfig(source=str(policy_folder)))
    checkpoints = ModelCheckpoint(tmp_path / "saved", every_n_train_steps=1, save_top_k=-1)
    with pytest.raises(NonFiniteError, match="at step 2"):
        fit(tmp_path, policy_folder, NonFiniteGuard(wait=False), checkpoints, module=module)
    report = json.loads(next(tmp_path.rglob("non_finite.json")).read_text())
    assert (report["step"], report["records"]) == (2, ["record-4", "record-5"])
    assert [path.stem.split("step=")[1] for path in sorted((tmp_path / "saved").iterdir())] == ["1", "2"]


def test_a_guard_that_does_not_wait_looks_at_the_last_step(policy_folder, tmp_path):
    module = Spoiled(policy=PolicyConfig(source=str(policy_folder)))
    with pytest.raises(NonFiniteError, match="at step 2"):
        fit(tmp_path, policy_folder, NonFiniteGuard(wait=False), module=module, steps=3)


def test_the_guard_lets_good_runs_pass(policy_folder, tmp_path):
    trainer, _ = fit(tmp_path, policy_folder, NonFiniteGuard())
    assert trainer.global_step == 4
    assert not list(tmp_path.rglob("non_finite.json"))


def fp16(scale):
    return MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=scale))


def test_the_guard_lives_with_the_overflows_by_which_a_loss_scale_finds_its_way(policy_folder, tmp_path):
    plugin = fp16(2.0**33)
    trainer, module = fit(tmp_path, policy_folder, NonFiniteGuard(), steps=16, max_epochs=4, plugins=plugin)
    assert trainer.global_step == 16
    assert plugin.scaler.get_scale() < 2.0**30  # steps were left out
    assert all(torch.isfinite(parameter).all() for parameter in module.parameters())


class NaNGradient(ORPO):
    """A finite loss whose gradient is no number, whatever the scale."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        loss.register_hook(lambda gradient: gradient * float("nan"))
        return loss


def test_a_scale_that_has_fallen_to_one_excuses_nothing_and_the_loss_is_reported_without_it(policy_folder, tmp_path):
    module = NaNGradient(policy=PolicyConfig(source=str(policy_folder)))
    with pytest.raises(NonFiniteError, match="at step 3"):
        fit(tmp_path, policy_folder, NonFiniteGuard(), module=module, plugins=fp16(8.0))
    report = json.loads(next(tmp_path.rglob("non_finite.json")).read_text())
    row = list(RandomPairs(module.views).train_dataloader())[3]  # no step was made
    losses, _ = module.loss(score(module.model, row.policy), None)
    assert report["loss"] == pytest.approx(losses.mean().item(), rel=1e-2)  # in half precision


def test_a_loss_that_is_no_number_stops_a_scaled_run_too(policy_folder, tmp_path):
    module = Spoiled(policy=PolicyConfig(source=str(policy_folder)))
    with pytest.raises(NonFiniteError, match=r"at step 2, got loss nan"):
        fit(tmp_path, policy_folder, NonFiniteGuard(), module=module, plugins=fp16(2.0**10))


@pytest.mark.parametrize("row", [0, 1, 2])
def test_any_row_of_an_accumulated_step_stops_the_guard(row, policy_folder, tmp_path):
    class SpoiledRow(ORPO):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            return loss.detach() * float("nan") + 0 * loss if batch_idx == row else loss

    module = SpoiledRow(policy=PolicyConfig(source=str(policy_folder)))
    with pytest.raises(NonFiniteError, match=r"at step 0, got loss nan"):
        fit(tmp_path, policy_folder, NonFiniteGuard(), module=module, accumulate_grad_batches=3)


def test_the_saved_folder_is_loaded_by_transformers_alone(policy_folder, tmp_path):
    _, module = fit(tmp_path, policy_folder, SavePretrained(str(tmp_path / "model")))
    assert isinstance(module, LightningModule)
    assert isinstance(SavePretrained(), Callback)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model", attn_implementation="prefix_shared")
    row = pack(random_groups([(5, [2, 3])]))
    torch.testing.assert_close(score(loaded, row).sums, score(module.model, row).sums)
    assert AutoTokenizer.from_pretrained(tmp_path / "model").eos_token == "<eos>"


def test_adapters_beside_trained_base_weights_are_exported_merged(policy_folder, tmp_path):
    policy = PolicyConfig(source=str(policy_folder), lora=LoRA(r=2, also_train=["norm"]))
    _, module = fit(tmp_path, policy_folder, SavePretrained(str(tmp_path / "model")), module=ORPO(policy=policy))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model", attn_implementation="prefix_shared")
    row = pack(random_groups([(5, [2, 3])]))
    torch.testing.assert_close(score(loaded, row).sums, score(module.model, row).sums)
