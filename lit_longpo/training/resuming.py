"""What an objective adds to Lightning's checkpoint, and what a resumed run restores from it."""

import logging
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch.optim.lr_scheduler import LambdaLR

from lit_longpo.checkpoints import (
    gather_random_states,
    log_from,
    record_due_validation,
    reopen_epoch,
    restore_random_state,
    rows_of_half_a_step,
    rows_so_far,
    run_record,
    taken,
    validate_now,
    validated_rows,
    validation_due,
)
from lit_longpo.errors import InputError
from lit_longpo.optimization import Optimization, Taken, num_optimizer_steps
from lit_longpo.optimization.schedules import steps_of, stretch_schedule
from lit_longpo.strategies import ends_step

log = logging.getLogger(__name__)


@dataclass
class Resumption:
    """The state that a resumed run takes from its checkpoint, until training continues.

    Args:
        random_states: one per rank; `None` without a checkpoint, and once training has continued.
        validated: number of rows trained on before the last validation.
        validation_is_due: whether the checkpoint was saved after a row that a validation follows, and before it ran.
        metrics_before: metrics that the checkpoint recorded.
        left_out: rows that the checkpoint counts but whose optimizer step had not ended; their gradients are lost.
        taken: steps, epochs and rows before the checkpoint.
        schedule_steps: number of steps that the learning-rate schedule was built for.
        loaded_step: optimizer steps that the loaded weights have taken; `None` once they are trained further.
    """

    random_states: list[dict[str, Any]] | None = None
    validated: int | None = None
    validation_is_due: bool = False
    metrics_before: dict[str, float] = field(default_factory=dict)
    left_out: int = 0
    taken: Taken = field(default_factory=Taken)
    schedule_steps: int | None = None
    loaded_step: int | None = None

    def save(self, checkpoint: dict[str, Any], trainer: Trainer, objective: str) -> None:
        """Add random states, and a record of the run, to a checkpoint."""
        reopen_epoch(checkpoint)
        record_due_validation(checkpoint, trainer, self.validated)
        checkpoint["random_states"] = gather_random_states()
        checkpoint["run"] = run_record(trainer, objective)

    def load(self, checkpoint: dict[str, Any]) -> None:
        """Take what `save` has added."""
        self.random_states = checkpoint.get("random_states")
        self.validation_is_due = validation_due(checkpoint)
        self.validated = validated_rows(checkpoint)
        self.left_out, self.taken = rows_of_half_a_step(checkpoint), taken(checkpoint)
        self.schedule_steps = checkpoint.get("run", {}).get("schedule_steps")
        self.metrics_before = dict(checkpoint.get("run", {}).get("metrics", {}))
        self.loaded_step = checkpoint.get("global_step")

    def num_steps(self, trainer: Trainer) -> int:
        """Optimizer steps that the weights have taken; Lightning counts none in `validate` and `test`."""
        fitting = trainer.state.fn == TrainerFn.FITTING
        return trainer.global_step if fitting or self.loaded_step is None else self.loaded_step

    def restore_metrics(self, trainer: Trainer) -> None:
        """Give monitored metrics their values of before, since an epoch may end next (Lightning#18595)."""
        if self.random_states is not None:
            values = {
                name: torch.tensor(value, device=trainer.strategy.root_device)
                for name, value in self.metrics_before.items()
            }
            trainer.callback_metrics.update(values)

    def restore_random_states(self, rank: int, trainer: Trainer) -> None:
        """Restore this rank's random state right before the first batch, so that nothing else uses it.

        Logged steps are counted on from the checkpoint's.
        """
        self.loaded_step = None
        if self.random_states is not None:
            self._warn_of_left_out(trainer)
            log_from(trainer, trainer.global_step)
            restore_random_state(self.random_states, rank, trainer.world_size)
            self.random_states = None

    def _warn_of_left_out(self, trainer: Trainer) -> None:
        """Warn of a checkpoint that was saved inside an optimizer step.

        Lightning's own trainer, older versions of ours and other people's callbacks may write such checkpoints.
        """
        if self.left_out and trainer.is_global_zero:
            log.warning(
                "the checkpoint was saved between the rows of one optimizer step: its %d rows before that change no "
                "weight, and the step is made of the others; a checkpoint of `every_n_train_steps` loses none",
                self.left_out,
            )

    def settle_schedule(self, trainer: Trainer, optimization: Optimization) -> None:
        """Stretch the learning-rate schedule so that it ends where this run's training ends."""
        schedule = next((config.scheduler for config in trainer.lr_scheduler_configs), None)
        planned = steps_of(schedule)
        self._check_epoch(trainer)
        if self.random_states is None or planned is None or not optimization.depends_on_length:
            return
        steps = num_optimizer_steps(trainer, self.taken)
        if (steps, steps) != (planned, self.schedule_steps):  # the rate of the next step is the checkpoint's
            stretch_schedule(cast(LambdaLR, schedule), steps, round(optimization.warmup_fraction * steps))
        if self.schedule_steps and self.schedule_steps != steps and trainer.is_global_zero:
            log.warning(
                "the learning rate now follows its schedule over %s steps, until here over %s",
                *(steps, self.schedule_steps),
            )

    def _check_epoch(self, trainer: Trainer) -> None:
        """Refuse an epoch that would be over before the row that the checkpoint was saved behind."""
        limit, rows = trainer.limit_train_batches, trainer.num_training_batches
        limited = isinstance(limit, int) or limit != 1.0  # 1 is one row
        if self.random_states is not None and limited and rows <= self.taken.rows:
            raise InputError(
                "expected `trainer.limit_train_batches` to leave more than the "
                f"{self.taken.rows} rows of this epoch that the checkpoint was trained on, got {rows}; restore it, or "
                "resume from the end of an epoch"
            )

    def validate_if_due(self, trainer: Trainer) -> None:
        """Run the validation that the checkpoint was saved before."""
        if self.validation_is_due:
            self.validation_is_due = False
            log_from(trainer, max(0, trainer.global_step - ends_step(trainer)))
            validate_now(trainer)

    def note_validation(self, trainer: Trainer) -> None:
        """Remember at which row a validation has run."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self.validated = rows_so_far(trainer)


def trained_names(module: LightningModule) -> set[str]:
    """Names of the parameters that are trained."""
    return {name for name, parameter in module.named_parameters() if parameter.requires_grad}


def leave_frozen_out(checkpoint: dict[str, Any], module: LightningModule) -> None:
    """Drop frozen weights from a checkpoint; a resumed run reads them from the policy's source again.

    Args:
        checkpoint: about to be written. One of Lightning's `WeightAveraging` is left as it is: that callback loads
            strictly.
        module: the objective.
    """
    if "state_dict" in checkpoint and "averaging_state" not in checkpoint:
        trained = trained_names(module)
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in trained}


def check_holds_trained(checkpoint: dict[str, Any], module: LightningModule) -> None:
    """Refuse a checkpoint that lacks trained weights, since it is loaded non-strictly.

    Strategies that shard weights keep them elsewhere; then nothing is checked.
    """
    if "state_dict" not in checkpoint:
        return
    missing = sorted(trained_names(module) - set(checkpoint["state_dict"]))
    if missing:
        raise InputError(
            f"the checkpoint lacks {len(missing)} trained tensors of this policy, for example {missing[0]!r}; "
            "resume with the `policy` section that the checkpoint was trained with (config.yaml beside it)"
        )
