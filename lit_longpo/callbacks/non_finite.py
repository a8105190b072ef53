"""Stop at the first loss or gradient that is not a number, and say which records caused it."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from lit_longpo.errors import UserError
from lit_longpo.objectives import PreferenceModule
from lit_longpo.strategies import AnyDeviceDeepSpeedStrategy, any_rank

_NORM = "train/gradient_norm"


class NonFiniteError(UserError, RuntimeError):
    """Loss or gradients became NaN or infinite."""


@dataclass
class _Check:
    """Values of one step on their way to the host."""

    step: int
    records: list[str]
    values: torch.Tensor  # bad on any rank, loss, norm
    arrived: torch.cuda.Event | None


class NonFiniteGuard(Callback):
    """Checks loss and gradients at every optimizer step, on all ranks together.

    DeepSpeed keeps gradients to itself. There the loss is checked before the step and the norm of all
    gradients, which DeepSpeed works out anyway, right after it, before anything is saved.

    It logs that norm, before clipping, as `train/gradient_norm`.

    In fp16 a gradient that is not finite is how the loss scale finds its way: the scaler leaves that step out. It
    counts only where the scale has fallen to 1. What is checked is the loss without its scale, what is reported the
    logged `train/loss` while that is a number.

    On the first bad value it writes `non_finite.json` (step, records, values) into the run's folder
    and raises; the last checkpoint is intact.

    Args:
        wait: look before the step; else before the next one, or before a checkpoint is written, so that nobody
            waits for a GPU at every step. `None` waits on a CPU only.
    """

    def __init__(self, wait: bool | None = None) -> None:
        self.wait = wait
        self._pending: _Check | None = None
        self._folder = Path()
        self._records: list[str] = []
        self._loss: torch.Tensor | None = None
        self._step = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the run's folder while all ranks are here: asking for it is a broadcast."""
        self._folder = Path(trainer.log_dir or trainer.default_root_dir)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Remember which records are on their way."""
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._records, self._loss = [], None
        self._step = trainer.global_step
        self._records.extend(batch.policy.examples)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: torch.Tensor) -> None:
        """Add the row's loss; the sum is looked at together with the gradients, in one synchronisation."""
        self._loss = loss.detach() if self._loss is None else self._loss + loss.detach()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Check this step, or the one before."""
        self._look(trainer)
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        loss = norm.new_zeros(()) if self._loss is None else self._loss
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        if gradients:  # DeepSpeed's are logged when it has worked them out
            pl_module.log(_NORM, norm, batch_size=1)
        scale = _loss_scale(trainer)
        shown = pl_module.step_loss if isinstance(pl_module, PreferenceModule) else None
        loss = torch.where(torch.isfinite(loss), loss / scale if shown is None else shown.to(loss), loss)
        self._pending = self._check(loss, norm, skips=scale > 1)
        if loss.device.type == "cpu" if self.wait is None else self.wait:
            self._look(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check the norm that DeepSpeed has just worked out."""
        if not isinstance(trainer.strategy, AnyDeviceDeepSpeedStrategy) or trainer.precision.startswith("16"):
            return
        norm = trainer.strategy.gradient_norm()
        if norm is not None:
            pl_module.log(_NORM, norm, batch_size=1)
        if norm is not None and any_rank(not math.isfinite(norm), trainer.strategy.root_device):
            shown = pl_module.step_loss if isinstance(pl_module, PreferenceModule) else self._loss
            loss = float("nan") if shown is None else float(shown)
            self._stop(trainer, self._step, self._records, loss, norm)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """No checkpoint of a step that nobody has looked at."""
        self._look(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The last step."""
        self._look(trainer)

    def _check(self, loss: torch.Tensor, norm: torch.Tensor, *, skips: bool) -> _Check:
        """Start the values on their way; nobody waits. `skips`: a scaler leaves steps without finite gradients out."""
        bad = torch.isfinite(loss if skips else norm + loss).logical_not().to(loss.dtype)
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(bad, op=torch.distributed.ReduceOp.MAX)
        values = torch.stack([bad, loss, norm.to(loss)])
        if values.device.type != "cuda":
            return _Check(self._step, list(self._records), values, None)
        values = values.to("cpu", non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        return _Check(self._step, list(self._records), values, arrived)

    def _look(self, trainer: Trainer) -> None:
        check, self._pending = self._pending, None
        if check is None:
            return
        if check.arrived is not None:
            check.arrived.synchronize()
        bad, loss, norm = check.values.tolist()
        if bad:
            self._stop(trainer, check.step, check.records, loss, norm)

    def _stop(self, trainer: Trainer, step: int, records: list[str], loss: float, norm: float) -> None:
        folder = self._folder / f"rank{trainer.global_rank}" if trainer.world_size > 1 else self._folder
        folder.mkdir(parents=True, exist_ok=True)
        report = {"step": step, "loss": loss, "gradient_norm": norm, "records": records}
        (folder / "non_finite.json").write_text(json.dumps(report, indent=2) + "\n")
        raise NonFiniteError(
            f"expected a finite loss and gradient at step {step}, got loss {loss} and gradient norm "
            f"{norm} for records {', '.join(records[:4])}; see {folder / 'non_finite.json'}, then lower the "
            "learning rate, set `trainer.gradient_clip_val`, or resume without those records"
        )


def _loss_scale(trainer: Trainer) -> float:
    """What losses are multiplied by before the backward pass; 1 without a scaler."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return 1.0 if scaler is None else float(scaler.get_scale())
