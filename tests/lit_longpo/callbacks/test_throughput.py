"""The parts of a step are told apart; sleeps make their smallest lengths known."""

import time

import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger
from support.preference_data import RandomPairs
from support.quiet_cpu import QUIET_CPU

from lit_longpo.batch import PackedBatch
from lit_longpo.callbacks import ThroughputCallback
from lit_longpo.callbacks.stopwatch import Stopwatch
from lit_longpo.objectives import DPO, ORPO
from lit_longpo.policy import LoRA, PolicyConfig, ReferenceConfig

PAUSE = 0.03


class Slow(ORPO):
    """Every forward takes at least a pause."""

    def training_step(self, batch, batch_idx):
        time.sleep(PAUSE)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        time.sleep(PAUSE)
        return super().validation_step(batch, batch_idx)


class SlowParts(Callback):
    """A pause in backward, two in the update."""

    def on_before_backward(self, trainer, pl_module, loss):
        loss.register_hook(lambda grad: time.sleep(PAUSE))

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        time.sleep(2 * PAUSE)


def fit(folder, module, data, steps=4, every=1, **options):
    seed_everything(0, verbose=False)
    trainer = Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        logger=CSVLogger(folder),
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        callbacks=[ThroughputCallback(every), SlowParts()],
        **options,
    )
    trainer.fit(module, datamodule=data)
    return {name.removeprefix("perf/"): float(v) for name, v in trainer.callback_metrics.items() if "perf/" in name}


def policy(folder, **options):
    return PolicyConfig(source=str(folder), **options)


def test_a_step_is_an_optimizer_step_of_all_its_micro_batches(policy_folder, tmp_path):
    module = Slow(policy=policy(policy_folder))
    data = RandomPairs(module.views)
    seen = fit(tmp_path, module, data, steps=2, accumulate_grad_batches=2, limit_val_batches=0)
    assert seen["forward_seconds"] >= 2 * PAUSE
    assert seen["backward_seconds"] >= 2 * PAUSE
    assert seen["optimizer_seconds"] >= 2 * PAUSE
    parts = [seen[f"{name}_seconds"] for name in ("data", "forward", "backward", "optimizer")]
    assert sum(parts) == pytest.approx(seen["step_seconds"], rel=1e-4)
    tokens = sum(batch.policy.num_tokens for batch in list(data.train_dataloader())[2:])
    assert seen["tokens_per_second"] == pytest.approx(tokens / seen["step_seconds"], rel=1e-4)


def test_what_prompts_share_is_a_part_of_all_groups_tokens(policy_folder, tmp_path, monkeypatch):
    module = ORPO(policy=policy(policy_folder))
    assert fit(tmp_path / "apart", module, RandomPairs(module.views), steps=2)["shared_tokens_ratio"] == 0.0
    held = property(lambda row: 4 * row.num_tokens)
    monkeypatch.setattr(PackedBatch, "num_held_tokens", held)
    module = ORPO(policy=policy(policy_folder))
    assert fit(tmp_path / "shared", module, RandomPairs(module.views), steps=2)["shared_tokens_ratio"] == 0.75


def test_what_comes_before_the_first_batch_is_no_part_of_a_step(policy_folder, tmp_path, monkeypatch):
    """A benchmark that was asked before training was counted as waiting for data."""
    names, mark = [], Stopwatch.mark
    monkeypatch.setattr(Stopwatch, "mark", lambda watch, name: (names.append(name), mark(watch, name)))
    module = ORPO(policy=policy(policy_folder))
    fit(tmp_path, module, RandomPairs(module.views), steps=2, limit_val_batches=0)
    assert names.count("data") == 1  # before the second batch
    assert names.index("forward") > 1
    assert names[names.index("forward") - 1] == "set_up"


def test_evaluation_is_timed_apart_from_the_steps(policy_folder, tmp_path):
    module = Slow(policy=policy(policy_folder))
    options = {"val_check_interval": 1, "limit_val_batches": 4}
    seen = fit(tmp_path, module, RandomPairs(module.views), steps=4, every=2, **options)
    assert seen["evaluation_seconds"] >= 4 * PAUSE
    parts = [seen[f"{name}_seconds"] for name in ("data", "forward", "backward", "optimizer")]
    assert sum(parts) == pytest.approx(seen["step_seconds"], rel=1e-4)


def test_a_cached_reference_is_timed_once_and_the_second_run_verifies_one_row(policy_folder, tmp_path, monkeypatch):
    rows = []
    monkeypatch.setattr("lit_longpo.policy.reference.reference.score", _slow_score(rows))
    seen, scored = [], []
    for run in ("first", "second"):
        reference = ReferenceConfig(cache_dir=str(tmp_path / "cache"))
        module = DPO(policy=policy(policy_folder), reference=reference)
        seen.append(fit(tmp_path / run, module, RandomPairs(module.views), steps=2))
        scored.append(len(rows))
        rows.clear()
    assert scored[0] >= 4
    assert scored[1] == 1  # one stored row is verified
    assert seen[0]["reference_pass_seconds"] >= scored[0] * PAUSE
    assert "reference_seconds" not in seen[0]


def test_an_online_reference_is_a_part_of_the_step(policy_folder, tmp_path):
    module = DPO(policy=policy(policy_folder, lora=LoRA(r=2)), reference=ReferenceConfig(mode="online"))
    seen = fit(tmp_path, module, RandomPairs(module.views), steps=2)
    assert seen["reference_seconds"] > 0
    assert "reference_pass_seconds" not in seen
    parts = [seen[f"{name}_seconds"] for name in ("data", "forward", "backward", "optimizer", "reference")]
    assert sum(parts) == pytest.approx(seen["step_seconds"], rel=1e-4)


def test_sanity_checks_are_not_evaluations(policy_folder, tmp_path):
    module = ORPO(policy=policy(policy_folder))
    trainer = Trainer(
        max_steps=2,
        **QUIET_CPU,
        default_root_dir=tmp_path,
        enable_checkpointing=False,
        num_sanity_val_steps=1,
        callbacks=[ThroughputCallback(1)],
    )
    trainer.fit(module, datamodule=RandomPairs(module.views, num_examples=16))
    assert "perf/forward_seconds" in trainer.callback_metrics
    assert "perf/evaluation_seconds" not in trainer.callback_metrics


@pytest.mark.gpu
def test_on_a_gpu_the_work_and_not_its_launch_is_timed():
    square = torch.ones(8192, 8192, device="cuda")
    watch = Stopwatch(square.device)
    for _ in range(20):
        square @ square
    watch.mark("work")
    assert watch.read()["work"] > 0.01  # 22 TFLOP
    assert watch.read() == {}


def _slow_score(rows):
    from lit_longpo.engine import score

    def slow(model, batch):
        rows.append(batch)
        time.sleep(PAUSE)
        return score(model, batch)

    return slow
