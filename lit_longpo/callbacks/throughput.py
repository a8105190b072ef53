"""Tokens per second and peak memory."""

import resource
import sys
import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

_GIB = 2**30


class ThroughputCallback(Callback):
    """Logs `perf/tokens_per_second` (rows that ranks share count once), `perf/step_seconds` and `perf/peak_memory_gib`.

    Rates cover the batches since the last log. Memory is the GPU's peak allocation, or on a CPU the
    largest resident size of the process. No device synchronisation beyond logging steps.

    Args:
        every_n_steps: how often rates are worked out, in batches.
    """

    def __init__(self, every_n_steps: int = 10) -> None:
        self.every_n_steps = every_n_steps
        self._tokens, self._batches, self._seconds, self._since = 0, 0, 0.0, 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._restart()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count; work the rates out every n-th time."""
        self._tokens += batch.policy.num_tokens
        self._batches += 1
        if self._batches < self.every_n_steps:
            return
        self._pause()
        seconds = self._seconds
        ranks = trainer.distributed_sampler_kwargs or {"num_replicas": 1}  # those with rows of their own
        pl_module.log("perf/tokens_per_second", self._tokens * ranks["num_replicas"] / seconds, prog_bar=True)
        pl_module.log("perf/step_seconds", seconds / self._batches)
        pl_module.log("perf/peak_memory_gib", peak_memory_gib(pl_module.device))
        self._restart()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validation does not count as training time."""
        self._pause()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Training goes on."""
        self._since = time.perf_counter()

    def _pause(self) -> None:
        self._seconds += time.perf_counter() - self._since

    def _restart(self) -> None:
        self._tokens, self._batches, self._seconds, self._since = 0, 0, 0.0, time.perf_counter()


def peak_memory_gib(device: torch.device) -> float:
    """Peak memory so far, in GiB: allocated on the GPU, resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / _GIB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / _GIB
