"""Logs a training's scalars through Lightning: means over examples, and the learning rate."""

from collections.abc import Mapping

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from lit_longpo.batch import tensor_on

_ON_THE_BAR = {"loss", "rewards/margins"}


def log_means(module: LightningModule, stage: str, means: Mapping[str, Tensor]) -> None:
    """Log means that all ranks share; `sync_dist` only keeps Lightning from warning that they might differ.

    Shape of each: ().
    """
    for name, mean in means.items():
        on_the_bar = name in _ON_THE_BAR
        module.log(f"{stage}/{name}", mean, prog_bar=on_the_bar, batch_size=1, sync_dist=stage != "train")


def log_learning_rate(module: LightningModule) -> None:
    """Log the step's learning rate, which all parameters share; as a tensor, so that logging waits for no GPU."""
    rate = module.trainer.optimizers[0].param_groups[0]["lr"]
    module.log("train/learning_rate", tensor_on(module.device, [float(rate)], torch.float32)[0], batch_size=1)
