"""Trains, resumes and fails on purpose, on one process or two; tests run it.

The embedded model and data of our own data module: its loader, its sampler, the reference cache and the schedule
are what a resume has to restore. Rank zero writes OUT/result.pt.
"""

import os
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
import yaml
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import ModelParallelStrategy
from support.quiet_cpu import QUIET_CPU
from support.zero3 import all_released, releasing_zero3

from data_modules import SyntheticDataModule
from lit_longpo.callbacks import NonFiniteGuard, ThroughputCallback
from lit_longpo.callbacks.non_finite import NonFiniteError
from lit_longpo.checkpoints import ResumableTrainer
from lit_longpo.engine import base_model
from lit_longpo.engine.attention import ordinary_attention
from lit_longpo.objectives import DPO, SoLoPO
from lit_longpo.optimization import FusedAdamW, Optimization
from lit_longpo.policy import LoRA, PolicyConfig, PromptTemplate, RoPE
from lit_longpo.strategies import AnyDeviceDeepSpeedStrategy, full_value, gathered_state_dict

STEPS = 6  # four in the first epoch, two in the second
RESUMED_AFTER = 2
TEMPLATE = PromptTemplate("{context} Complete: {question} ")
POLICIES = {
    "full": PolicyConfig(template=TEMPLATE, rope=RoPE(theta=20000.0)),
    "lora": PolicyConfig(template=TEMPLATE, lora=LoRA(r=2, dropout=0.2)),
}
FSDP2 = partial(ModelParallelStrategy, tensor_parallel_size=1, process_group_backend="gloo")
STRATEGIES: dict[str, Any] = {
    "single": lambda: "auto",
    "ddp": lambda: "ddp",
    "fsdp2": partial(FSDP2, data_parallel_size=2),
    "fsdp2 of 1": partial(FSDP2, data_parallel_size=1),
    "fsdp2 of 4": partial(FSDP2, data_parallel_size=4),
    "zero2": partial(AnyDeviceDeepSpeedStrategy, stage=2),
    "zero3": releasing_zero3,
}
RANKS = {"single": 1, "fsdp2 of 1": 1, "fsdp2 of 4": 4}
PROBE = torch.arange(5, 45).unsqueeze(0)


def num_ranks(strategy):
    """How many processes train."""
    return RANKS.get(strategy, 2)


class Losses(Callback):
    """Every step's global loss; what this rank's generator holds before and after; the whole weights at the end."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.weights: dict[str, torch.Tensor] = {}

    def on_train_batch_start(self, trainer, module, *_):
        if getattr(trainer.strategy, "zero_stage_3", False):
            assert all_released(module.model)

    def on_train_batch_end(self, trainer, module, *_):
        self.values.append(float(trainer.callback_metrics["train/loss"]))

    def on_train_end(self, trainer, module):
        self.weights = gathered_state_dict(module.model, keep=True)


class Restored(Callback):
    """What is in memory when training goes on, and the records that this rank is trained on."""

    def __init__(self):
        self.found: dict[str, Any] = {"records": []}

    def on_train_start(self, trainer, module):
        states = [state for state in trainer.optimizers[0].state.values() if "exp_avg" in state]
        self.found["weights"] = gathered_state_dict(module.model, keep=True)
        self.found["moments"] = [full_value(state["exp_avg"]).clone() for state in states]

    def on_train_batch_start(self, trainer, module, batch, *_):
        self.found["records"].append([int(name.split("-")[1]) for name in batch.policy.examples])


class NaNGradient(SoLoPO):
    """Finite losses whose gradients are not, from the second step on and on the last rank only."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        if batch_idx == 1 and self.global_rank == self.trainer.world_size - 1:
            loss.register_hook(lambda gradient: gradient * float("nan"))
        return loss


def parts(policy, strategy, objective=SoLoPO):
    """Objective and data; a step of any strategy trains on the same records."""
    adamw = Optimization(partial(FusedAdamW, lr=2e-3), schedule="cosine", warmup_fraction=0.2)
    module = objective(base=DPO(), alpha=0.1, policy=policy, optimization=adamw)
    data = SyntheticDataModule(
        num_train=32,
        num_val=2,
        short_words=16,
        long_words=(24, 48),
        max_tokens=512,
        max_examples=8 // num_ranks(strategy),
        views=module.views,
        prompt_format=policy.prompt_format(),
    )
    return module, data


def trainer_for(strategy, folder, *callbacks, steps=STEPS, **options):
    seed_everything(0, verbose=False)
    return ResumableTrainer(
        max_epochs=-1,
        max_steps=steps,
        **QUIET_CPU,
        devices=num_ranks(strategy),
        strategy=STRATEGIES[strategy](),
        gradient_clip_val=0.5,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        limit_val_batches=1,
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        default_root_dir=folder,
        callbacks=list(callbacks),
        **options,
    )


def train(strategy, name, folder, ckpt_path=None):
    module, data = parts(POLICIES[name], strategy)
    losses = Losses()
    save = ModelCheckpoint(folder / "checkpoints", "{step}", every_n_train_steps=2, save_top_k=-1, save_last=True)
    callbacks = [losses, ThroughputCallback(every_n_steps=100), NonFiniteGuard()]
    trainer = trainer_for(strategy, folder, *callbacks, *([] if ckpt_path else [save]))
    trainer.fit(module, datamodule=data, ckpt_path=ckpt_path)
    rate = module.lr_schedulers().get_last_lr()
    return {"losses": losses.values, "weights": losses.weights, "rate": rate}


def logits(name, weights):
    """Of the trained policy, from the weights that were in memory; a process with ZeRO-3 would split them."""
    model = POLICIES[name].load().eval()
    model.load_state_dict(weights)
    with torch.no_grad(), ordinary_attention(base_model(model), "sdpa"):
        return base_model(model)(PROBE, attention_mask=torch.ones_like(PROBE)).logits


def go_on(strategy, checkpoint, out):
    """What a strategy finds in another's checkpoint, in OUT/restored.pt."""
    module, data = parts(POLICIES["full"], strategy)
    restored = Restored()
    trainer = trainer_for(strategy, out, restored)
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint)
    if trainer.is_global_zero:
        torch.save(restored.found, out / "restored.pt")


def two_steps(strategy, out):
    """Ends in the first epoch; the checkpoint is that of its end."""
    module, data = parts(POLICIES["full"], strategy)
    save = ModelCheckpoint(out / "checkpoints", save_last=True)
    trainer_for(strategy, out, save, steps=2).fit(module, datamodule=data)


def write_config(folder, name):
    """What the command line leaves beside a run."""
    section = {"class_path": "lit_longpo.objectives.SoLoPO", "init_args": {"base": "DPO", "alpha": 0.1}}
    folder.mkdir(parents=True, exist_ok=True)
    config = {"seed_everything": 0, "policy": asdict(POLICIES[name]), "model": section}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def guarded(strategy, folder):
    """What the guard says to gradients that are not numbers, and whether the weights are still good."""
    module, data = parts(POLICIES["full"], strategy, NaNGradient)
    trainer = trainer_for(strategy, folder, NonFiniteGuard(), steps=4)
    try:
        trainer.fit(module, datamodule=data)
    except NonFiniteError as error:
        kept = gathered_state_dict(module.model, keep=True)
        return str(error), all(bool(weight.isfinite().all()) for weight in kept.values())
    return "", False


def validated(strategy, folder):
    """What a stand-alone `validate` from the checkpoint gives: metrics, or the refusal."""
    module, data = parts(POLICIES["full"], strategy)
    trainer = trainer_for(strategy, folder / "full")
    try:
        return trainer.validate(module, datamodule=data, ckpt_path=folder / "full/checkpoints/last.ckpt")[0]
    except ValueError as error:
        return str(error)


def main(strategy, out):
    result: dict[str, Any] = {}
    for name in POLICIES:
        folder = out / name
        write_config(folder, name)
        whole = train(strategy, name, folder)
        resumed = train(strategy, name, folder, folder / "checkpoints" / f"step={RESUMED_AFTER}.ckpt")
        result[name] = {"whole": whole, "resumed": resumed}
    result["validated"] = validated(strategy, out)
    result["guarded"] = guarded(strategy, out / "guarded")
    if os.environ.get("LOCAL_RANK", "0") == "0":
        torch.save(result, out / "result.pt")
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
