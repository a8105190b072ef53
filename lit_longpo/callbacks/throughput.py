"""Logs tokens per second, where the time goes, and peak memory."""

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lit_longpo.callbacks.stopwatch import Stopwatch
from lit_longpo.objectives import PreferenceModule

_GIB = 2**30
_EVALUATION, _REFERENCE_PASS = "evaluation", "reference_pass"
_State = Literal["set-up", "before", "step", "evaluation"]  # before: training has started, its first batch has not
# Not part of a training step.
_APART = {_EVALUATION, _REFERENCE_PASS, "set_up"}


class ThroughputCallback(Callback):
    """Logs speed and memory under `perf/`, averaged over the optimizer steps since the last log.

    - `perf/tokens_per_second`, over all ranks (rows that ranks share count once), and `perf/step_seconds`, per
      optimizer step, without evaluation
    - the parts of a step, over all its micro-batches: `perf/data_seconds` (from the end of a batch to the start of the
      next: waiting for data, and saving checkpoints), `perf/forward_seconds`, `perf/backward_seconds`,
      `perf/optimizer_seconds` (clipping, update, schedule) and, with an online reference, `perf/reference_seconds`
    - `perf/shared_tokens_ratio`: the part of all groups' tokens (a prompt and its responses) that was not computed,
      because prompts of a row share their beginning (`data.init_args.share_prompts`). 0 if none do; near 7 / 8 with
      eight questions about one long document in a row
    - `perf/evaluation_seconds` of one validation, benchmarks included, and `perf/reference_pass_seconds` of the cached
      reference's pass, if there was one
    - `perf/peak_memory_gib`: the GPU's peak allocation; on a CPU the largest resident size of the process

    On a GPU the times are the device's own. Only logging waits for it. A resumed run begins a new average.

    Args:
        every_n_steps: how often rates are computed, in optimizer steps.
    """

    def __init__(self, every_n_steps: int = 10) -> None:
        self.every_n_steps = every_n_steps
        self._watch = Stopwatch(torch.device("cpu"))
        self._state: _State = "set-up"
        self._tokens = self._held = self._evaluations = self._logged_at = self._stepped_at = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Time reference passes from here on: the cached one comes before training starts."""
        self._watch, self._state = Stopwatch(pl_module.device), "set-up"
        if isinstance(pl_module, PreferenceModule):
            pl_module.reference.around = self._reference

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start timing steps; what callbacks do before the first batch (a benchmark, say) is no part of one."""
        self._mark("set_up", "before")
        self._tokens, self._held, self._evaluations = 0, 0, 0
        self._logged_at = self._stepped_at = trainer.global_step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """The batch is there."""
        self._mark("data" if self._state == "step" else "set_up", "step")

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: torch.Tensor) -> None:
        """The loss is there."""
        self._watch.mark("forward")

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The gradients are there."""
        self._watch.mark("backward")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count; work the rates out every n-th optimizer step."""
        self._tokens += batch.policy.num_tokens
        self._held += batch.policy.num_held_tokens
        stepped = trainer.global_step > self._stepped_at
        self._watch.mark("optimizer" if stepped else "backward")
        self._stepped_at = trainer.global_step
        if stepped and trainer.global_step - self._logged_at >= self.every_n_steps:
            self._log(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validation does not count as training time."""
        self._mark("data" if self._state == "step" else "set_up", "evaluation")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Training goes on."""
        if trainer.sanity_checking:
            self._mark("set_up", "set-up")
            return
        self._mark(_EVALUATION, "step")
        self._evaluations += 1

    def _mark(self, name: str, state: _State) -> None:
        self._watch.mark(name)
        self._state = state

    @contextmanager
    def _reference(self) -> Iterator[None]:
        """Around a reference pass: the cached one before training, the online one inside a step."""
        if self._state in ("evaluation", "before"):
            yield
            return
        self._watch.mark("forward" if self._state == "step" else "set_up")
        yield
        self._watch.mark("reference" if self._state == "step" else _REFERENCE_PASS)

    def _log(self, trainer: Trainer, pl_module: LightningModule) -> None:
        seconds, steps = self._watch.read(), trainer.global_step - self._logged_at
        parts = {name: value for name, value in seconds.items() if name not in _APART}
        step_seconds = sum(parts.values())
        ranks = trainer.distributed_sampler_kwargs or {"num_replicas": 1}  # those with rows of their own
        pl_module.log("perf/tokens_per_second", self._tokens * ranks["num_replicas"] / step_seconds, prog_bar=True)
        pl_module.log("perf/shared_tokens_ratio", 1.0 - self._tokens / self._held)
        pl_module.log("perf/step_seconds", step_seconds / steps)
        for name, value in parts.items():
            pl_module.log(f"perf/{name}_seconds", value / steps)
        if self._evaluations:
            pl_module.log(f"perf/{_EVALUATION}_seconds", seconds[_EVALUATION] / self._evaluations)
        if _REFERENCE_PASS in seconds:
            pl_module.log(f"perf/{_REFERENCE_PASS}_seconds", seconds[_REFERENCE_PASS])
        pl_module.log("perf/peak_memory_gib", peak_memory_gib(pl_module.device))
        self._tokens = self._held = self._evaluations = 0
        self._logged_at = trainer.global_step


def peak_memory_gib(device: torch.device) -> float:
    """Peak memory so far, in GiB: allocated on the GPU, resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / _GIB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / _GIB
