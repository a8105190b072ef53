"""What a checkpoint of an objective holds beside the trainer's part, and what a run that goes on takes from it."""

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
    """Where a run stands that goes on, until it has gone on.

    Args:
        random_states: of a checkpoint, until training goes on.
        validated: rows before the last validation.
        validation_is_due: after a checkpoint that was saved before it.
        metrics_before: of the checkpoint that this run goes on from.
        left_out: rows before it whose step had not ended: their gradients are lost.
        taken: steps, epochs and rows before it.
        schedule_steps: over which the learning rate went until then.
        loaded_step: optimizer steps of the weights that were read, until they are trained.
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
        """Add random states and what the run was."""
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
        """What callbacks watch has the values that it had: an epoch may end next (Lightning#18595)."""
        if self.random_states is not None:
            values = {
                name: torch.tensor(value, device=trainer.strategy.root_device)
                for name, value in self.metrics_before.items()
            }
            trainer.callback_metrics.update(values)

    def restore_random_states(self, rank: int, trainer: Trainer) -> None:
        """The first batch draws what it would have drawn, nothing else uses these states between; steps count on."""
        self.loaded_step = None
        if self.random_states is not None:
            self._say_left_out(trainer)
            log_from(trainer, trainer.global_step)
            restore_random_state(self.random_states, rank, trainer.world_size)
            self.random_states = None

    def _say_left_out(self, trainer: Trainer) -> None:
        """Checkpoints of Lightning's own trainer, of before, or of somebody's callback may be such."""
        if self.left_out and trainer.is_global_zero:
            log.warning(
                "the checkpoint was saved between the rows of one optimizer step: its %d rows before that change no "
                "weight, and the step is made of the others; a checkpoint of `every_n_train_steps` loses none",
                self.left_out,
            )

    def settle_schedule(self, trainer: Trainer, optimization: Optimization) -> None:
        """Let the learning rate end where the training does, whatever made other steps of what lies behind it."""
        schedule = next((config.scheduler for config in trainer.lr_scheduler_configs), None)
        planned = steps_of(schedule)
        if self.random_states is None or planned is None or not optimization.depends_on_length:
            return
        steps = num_optimizer_steps(trainer, self.taken)
        if steps != planned:
            stretch_schedule(cast(LambdaLR, schedule), steps, round(optimization.warmup_fraction * steps))
        if self.schedule_steps and self.schedule_steps != steps and trainer.is_global_zero:
            log.warning(
                "the learning rate now follows its schedule over %s steps, until here over %s",
                *(steps, self.schedule_steps),
            )

    def validate_if_due(self, trainer: Trainer) -> None:
        """A validation that was due comes first."""
        if self.validation_is_due:
            self.validation_is_due = False
            log_from(trainer, max(0, trainer.global_step - ends_step(trainer)))
            validate_now(trainer)

    def note_validation(self, trainer: Trainer) -> None:
        """A validation is over."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self.validated = rows_so_far(trainer)


def trained_names(module: LightningModule) -> set[str]:
    """Names of the parameters that are trained."""
    return {name for name, parameter in module.named_parameters() if parameter.requires_grad}


def leave_frozen_out(checkpoint: dict[str, Any], module: LightningModule) -> None:
    """Keep of a checkpoint's weights those that are trained; the others are read from the policy's source again.

    Args:
        checkpoint: about to be written; one of Lightning's `WeightAveraging` stays whole, which loads all or nothing.
        module: the objective.
    """
    if "state_dict" in checkpoint and "averaging_state" not in checkpoint:
        trained = trained_names(module)
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in trained}


def check_trained(checkpoint: dict[str, Any], module: LightningModule) -> None:
    """Refuse a part that lacks what is trained: it is loaded non-strictly.

    Args:
        checkpoint: of any strategy; those that shard load weights apart.
        module: the objective.

    Raises:
        InputError: naming a tensor.
    """
    if "state_dict" not in checkpoint:
        return
    missing = sorted(trained_names(module) - set(checkpoint["state_dict"]))
    if missing:
        raise InputError(
            f"the checkpoint lacks {len(missing)} trained tensors of this policy, for example {missing[0]!r}; "
            "resume with the `policy` section that the checkpoint was trained with (config.yaml beside it)"
        )
