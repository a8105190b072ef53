"""Stop at the first loss or gradient that is not a number, or leave its step out, and keep the rows that caused it."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from lit_longpo.batch import PreferenceBatch
from lit_longpo.checkpoints.whole import newest_whole
from lit_longpo.errors import InputError, UserError
from lit_longpo.files.stored import write_json
from lit_longpo.objectives import PreferenceModule
from lit_longpo.run_folder import folder_of_run, keeps_nothing, typed_path
from lit_longpo.saved_rows import save_rows
from lit_longpo.strategies import AnyDeviceDeepSpeedStrategy, any_rank

log = logging.getLogger(__name__)

_NORM = "train/gradient_norm"
_SKIPPED = "train/skipped_steps"
_KEPT = 10  # steps left out whose rows are kept


class NonFiniteError(UserError, RuntimeError):
    """Loss or gradients became NaN or infinite."""


@dataclass(frozen=True)
class _BadStep:
    """A step whose loss or gradient norm is not finite."""

    step: int
    rows: Sequence[PreferenceBatch]
    loss: float
    norm: float

    @property
    def records(self) -> list[str]:
        """Names of the examples in its rows."""
        return [name for row in self.rows for name in row.policy.examples]


@dataclass
class _Check:
    """Values of one step on their way to the host."""

    step: int
    rows: list[PreferenceBatch]
    values: torch.Tensor  # bad on any rank, loss, norm
    arrived: torch.cuda.Event | None

    def read(self) -> _BadStep | None:
        """What is wrong with the step, `None` if nothing is; waits until the values have arrived."""
        if self.arrived is not None:
            self.arrived.synchronize()
        bad, loss, norm = self.values.tolist()
        return _BadStep(self.step, self.rows, loss, norm) if bad else None


class NonFiniteGuard(Callback):
    """Checks loss and gradients at every optimizer step, on all ranks together.

    It logs the norm of all gradients, before clipping, as `train/gradient_norm`.

    On the first bad value it writes `non_finite.json` (step, records, values, what to type) and
    `non_finite.safetensors` (the rows of that step) into the run's folder, and raises. The message names the command
    that computes these rows again; the last checkpoint is intact.

    DeepSpeed does not show its gradients. There the loss is checked before the step, and the norm that DeepSpeed
    computes anyway right after it, before anything is saved.

    In fp16 the loss scale is found by gradients that are not finite, and the scaler skips such steps. They count only
    once the scale has fallen to 1. The loss is checked without its scale, and reported as the logged `train/loss` while
    that is a number.

    Args:
        wait: check before the step. Otherwise the check comes before the next step, or before a checkpoint is written,
            so that no step waits for a GPU. `None` waits on a CPU only.
        on_bad: "stop"; or "skip": leave the step out on all ranks, count it in `train/skipped_steps`, and go on. "skip"
            checks before every step. The learning rate's schedule and `max_steps` count skipped steps.
        max_skipped: with "skip", stop when this many steps in a row are left out.

    Raises:
        InputError: `max_skipped` is below 1.
    """

    def __init__(
        self, wait: bool | None = None, on_bad: Literal["stop", "skip"] = "stop", max_skipped: int = 10
    ) -> None:
        if max_skipped < 1:
            raise InputError(
                f"expected `max_skipped` of at least 1, got {max_skipped}; `on_bad: stop` stops at the first bad step"
            )
        self.wait = True if on_bad == "skip" else wait
        self.on_bad, self.max_skipped = on_bad, max_skipped
        self.skipped = 0  # steps left out, those before a resume included
        self._in_a_row = 0
        self._pending: _Check | None = None
        self._folder = Path()
        self._rows: list[PreferenceBatch] = []
        self._loss: torch.Tensor | None = None
        self._step = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the run's folder while all ranks are here: asking for it is a broadcast.

        Raises:
            InputError: steps are to be left out where that is not ours to do.
        """
        scaled = trainer.precision.startswith("16")
        if self.on_bad == "skip" and (scaled or isinstance(trainer.strategy, AnyDeviceDeepSpeedStrategy)):
            why = "fp16, whose loss scale leaves steps out itself" if scaled else "DeepSpeed, which keeps gradients"
            raise InputError(
                f"expected `on_bad: stop` of NonFiniteGuard with {why}, got skip; leave it out, or train in bfloat16 "
                "with DDP or FSDP2"
            )
        self._folder = folder_of_run(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Remember which rows are on their way."""
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._rows, self._loss = [], None
        self._step = trainer.global_step
        self._rows.append(batch)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: torch.Tensor) -> None:
        """Add the row's loss; the sum is looked at together with the gradients, in one synchronisation."""
        self._loss = loss.detach() if self._loss is None else self._loss + loss.detach()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Check this step, or the one before."""
        self._look(trainer)
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        total = norm.new_zeros(()) if self._loss is None else self._loss
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        if gradients:  # DeepSpeed's are logged when it has worked them out
            pl_module.log(_NORM, norm, batch_size=1)
        scale = _loss_scale(trainer)
        logged = pl_module.step_loss if isinstance(pl_module, PreferenceModule) else None
        told = total / scale if logged is None else logged.to(total)
        self._pending = self._check(torch.where(torch.isfinite(total), told, total), norm, skips=scale > 1)
        if self.on_bad == "skip":
            self._skip_if_bad(trainer, optimizer)
            pl_module.log(_SKIPPED, float(self.skipped), batch_size=1)
        waits = total.device.type == "cpu" if self.wait is None else self.wait
        if waits:
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
            self._stop(trainer, _BadStep(self._step, self._rows, loss, norm))

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """No checkpoint of a step that nobody has looked at."""
        self._look(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The last step, and how many were left out."""
        self._look(trainer)
        if self.skipped and trainer.is_global_zero:
            log.warning(
                "%d optimizer steps were left out (%s): the records of their rows count as trained on, but changed "
                "no weight",
                self.skipped,
                _SKIPPED,
            )

    def _check(self, loss: torch.Tensor, norm: torch.Tensor, *, skips: bool) -> _Check:
        """Start the values on their way; nobody waits. `skips`: a scaler leaves steps without finite gradients out."""
        bad = torch.isfinite(loss if skips else norm + loss).logical_not().to(loss.dtype)
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(bad, op=torch.distributed.ReduceOp.MAX)
        values = torch.stack([bad, loss, norm.to(loss)])
        arrived = None
        if values.device.type == "cuda":
            values = values.to("cpu", non_blocking=True)
            arrived = torch.cuda.current_stream().record_event()
        return _Check(self._step, list(self._rows), values, arrived)

    def _look(self, trainer: Trainer) -> None:
        check, self._pending = self._pending, None
        if check is not None and (bad := check.read()) is not None:
            self._stop(trainer, bad)

    def _skip_if_bad(self, trainer: Trainer, optimizer: Optimizer) -> None:
        """Leave the step out, on all ranks alike: the check is one for all. Without gradients nothing moves."""
        assert self._pending is not None
        bad = self._pending.read()
        if bad is None:
            self._in_a_row = 0
            return
        self.skipped, self._in_a_row = self.skipped + 1, self._in_a_row + 1
        if self._in_a_row >= self.max_skipped:
            return  # it is pending: whoever looks stops
        self._pending = None
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
        where = ""
        if self.skipped <= _KEPT:
            report = self._write(trainer, bad, f"-step{bad.step}")
            where = f"; {report} says which rows, and what to type to compute them again"
        if trainer.is_global_zero:
            log.warning("step %d is left out: loss %s, gradient norm %s%s", bad.step, bad.loss, bad.norm, where)

    def state_dict(self) -> dict[str, Any]:
        """How many steps were left out, where they are."""
        return {"skipped": self.skipped} if self.on_bad == "skip" else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting from a checkpoint."""
        self.skipped = state_dict.get("skipped", 0)

    def _stop(self, trainer: Trainer, bad: _BadStep) -> NoReturn:
        see, again = "", ""
        if not keeps_nothing(trainer):
            report = self._write(trainer, bad)
            see = f"see {report}, then "
            command = replay_command(self._folder, report.with_suffix(".safetensors"), len(bad.rows), trainer)
            again = f"; to compute these rows again {command}"
        times = f" {self._in_a_row} times in a row" if self._in_a_row > 1 else ""
        raise NonFiniteError(
            f"expected a finite loss and gradient at step {bad.step}, got loss {bad.loss} and gradient norm "
            f"{bad.norm}{times} for records {', '.join(bad.records[:4])}; {see}lower the learning rate, set "
            f"`trainer.gradient_clip_val` or resume without those records{again}"
        )

    def _write(self, trainer: Trainer, bad: _BadStep, suffix: str = "") -> Path:
        """Keep rows and values; each rank has rows of its own."""
        folder = self._folder / f"rank{trainer.global_rank}" if trainer.world_size > 1 else self._folder
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"non_finite{suffix}.json"
        save_rows(path.with_suffix(".safetensors"), bad.rows)
        again = replay_command(self._folder, path.with_suffix(".safetensors"), len(bad.rows), trainer)
        values = {"step": bad.step, "loss": bad.loss, "gradient_norm": bad.norm}
        write_json(path, {**values, "records": bad.records, "again": again}, indent=2)
        return path


def replay_command(folder: Path, rows: Path, count: int, trainer: Trainer) -> str:
    """The command that trains one step on the stored rows, from the run's last checkpoint if there is one."""
    if not (folder / "config.yaml").is_file():
        return f"read {rows} with lit_longpo.saved_rows.read_rows"
    words = ["python -m lit_longpo fit", f"--config {typed_path(folder / 'config.yaml')}"]
    words += [f"--data SavedRows --data.path {typed_path(rows)}", f"--trainer.fast_dev_run {count}"]
    words.append("--trainer.callbacks NonFiniteGuard")  # others may ask benchmarks first
    if trainer.world_size > 1:
        words.append("--trainer.devices 1 --trainer.num_nodes 1 --trainer.strategy auto")
    if trainer.ckpt_path is not None:
        words.append("--ckpt_path null")
    if (last := newest_whole(folder)) is not None:
        words.append(f"--initial_weights {typed_path(last)}")
    return f"type: {' '.join(words)}"


def _loss_scale(trainer: Trainer) -> float:
    """What losses are multiplied by before the backward pass; 1 without a scaler."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return 1.0 if scaler is None else float(scaler.get_scale())
