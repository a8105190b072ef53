"""A fit that learns nothing and remembers which examples it saw."""

from pathlib import Path

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from support.quiet_cpu import QUIET_CPU

from lit_longpo.batch import PreferenceBatch


class Recorder(LightningModule):
    """Learns nothing; remembers which examples it saw in which epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, tuple[str, ...]]] = []

    def training_step(self, batch: PreferenceBatch, batch_idx: int) -> torch.Tensor:
        self.seen.append((self.current_epoch, batch.policy.examples))
        return self.weight * 0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(folder: Path, data: LightningDataModule, max_epochs: int, ckpt_path: Path | None = None) -> Recorder:
    """Train from the start with a checkpoint after every step, FOLDER/step=1.ckpt and so on; or go on from one."""
    module = Recorder()
    checkpoints = ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1)
    Trainer(
        **QUIET_CPU,
        max_epochs=max_epochs,
        callbacks=[] if ckpt_path else [checkpoints],
        enable_checkpointing=ckpt_path is None,
        use_distributed_sampler=False,
    ).fit(module, datamodule=data, ckpt_path=ckpt_path)
    return module
