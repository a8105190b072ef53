"""A few steps of DPO on random pairs, in one process or several that have the same rows."""

from functools import partial
from pathlib import Path

from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.strategies import ModelParallelStrategy
from support.preference_data import RandomPairs
from support.quiet_cpu import QUIET_CPU
from support.zero3 import releasing_zero3
from torch import nn

from lit_longpo.callbacks import SavePretrained
from lit_longpo.checkpoints import ResumableTrainer
from lit_longpo.objectives import DPO
from lit_longpo.optimization import FusedAdamW, Optimization
from lit_longpo.policy import PolicyConfig
from lit_longpo.strategies import AnyDeviceDeepSpeedStrategy

STRATEGIES = {
    "one": lambda: "auto",
    "ddp": lambda: "ddp",
    "fsdp2": lambda: ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1, process_group_backend="gloo"),
    "zero1": partial(AnyDeviceDeepSpeedStrategy, stage=1),
    "zero2": partial(AnyDeviceDeepSpeedStrategy, stage=2),
    "zero3": releasing_zero3,
    "zero3 as it is": partial(AnyDeviceDeepSpeedStrategy, stage=3),  # keeps small weights whole
}


def fit(
    policy: PolicyConfig,
    folder: Path,
    steps: int = 2,
    strategy: str = "one",
    resume: Path | None = None,
    optimizer: OptimizerCallable = FusedAdamW,
    data: type[RandomPairs] = RandomPairs,
) -> Trainer:
    """Train; the exported policy is in FOLDER/model, checkpoints are FOLDER/step=2.ckpt and so on."""
    seed_everything(0, verbose=False)
    optimization = Optimization(partial(optimizer, lr=0.01), schedule="constant", warmup_fraction=0.0)
    module = DPO(policy=policy, optimization=optimization)
    trainer = ResumableTrainer(
        max_steps=steps,
        **QUIET_CPU,
        devices=1 if strategy == "one" else 2,
        strategy=STRATEGIES[strategy](),
        default_root_dir=folder,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        limit_val_batches=0,
        callbacks=[
            SavePretrained(str(folder / "model")),
            ModelCheckpoint(folder, "{step}", every_n_train_steps=2, save_top_k=-1),
        ],
    )
    trainer.fit(module, datamodule=data(module.views), ckpt_path=resume)
    return trainer


def model_of(trainer: Trainer) -> nn.Module:
    """The trained policy."""
    return trainer.lightning_module.model.eval()
