"""Decides when something is measured during `fit`, `validate` and `test`."""

import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng

from evaluation.callbacks.averages import averages_in_place
from lit_longpo.errors import InputError
from lit_longpo.objectives import PreferenceModule
from lit_longpo.optimization import num_optimizer_steps
from lit_longpo.ranges import MOST, check_numbers
from lit_longpo.run_folder import folder_of_run, keeps_nothing
from lit_longpo.training.monitors import watched

log = logging.getLogger(__name__)

_TRIAL_STEPS = 10
_TRIAL_QUESTIONS = 20
_DEV_QUESTIONS = 2


class ScheduledCallback(Callback, ABC):
    """Measures before training, at validation, at the end of `fit`, and in `validate` and `test`.

    Training is the same with and without it: random states are restored. A trial run measures less: 2 questions of each
    task under `fast_dev_run`, which keeps no reports, and 20 in a `fit` that is stopped within 10 steps, before it has
    gone through its epochs.

    Args:
        before_training: also measure the untrained policy.
        every_n_validations: measure at every n-th validation; 0 means only before and after training.
        label: distinguishes several callbacks of one name.

    Raises:
        InputError: a label that cannot be part of a file's name.
    """

    def __init__(self, before_training: bool = True, every_n_validations: int = 1, label: str = "") -> None:
        if not re.fullmatch(r"[\w.-]*", label):
            raise InputError(f"expected a label of letters, digits, '_', '-' and '.', got {label!r}; correct `label`")
        self.before_training, self.every_n_validations, self.label = before_training, every_n_validations, label
        check_numbers(self, "", every_n_validations=(0, MOST))
        self.is_off = False  # where a run says that there is nothing to measure
        self._validations = 0
        self._last_step: int | None = None
        self._trial_limit: int | None = None

    @property
    @abstractmethod
    def name(self) -> str:
        """What is measured."""

    @property
    def title(self) -> str:
        """Title of report files and scalars: the name, and the label if there is one."""
        return f"{self.name}-{self.label}" if self.label else self.name

    @abstractmethod
    def measure(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the policy as it is now; called on every process."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse callbacks that overwrite each other's reports and scalars, or are watched too often; know a trial.

        Raises:
            InputError: another callback of the trainer has the same title, or one keeps or stops by old scores.
        """
        same = [item for item in callbacks_of(trainer) if item.title == self.title]
        if len(same) > 1:
            raise InputError(
                f"expected one callback that writes {self.title}-step<n> and benchmark/{self.title}/..., got "
                f"{len(same)}: {', '.join(type(item).__name__ for item in same)}; set `label` of one, for example "
                "`label: second`"
            )
        if stage == "fit":
            self._check_watched(trainer)
        self._trial_limit, self._last_step = None, None
        if keeps_nothing(trainer):
            self._try_with(_DEV_QUESTIONS, trainer)

    def _check_watched(self, trainer: Trainer) -> None:
        """Between two measurements Lightning would call weights by the scores of earlier ones."""
        for name, monitor in watched(trainer.callbacks):  # type: ignore[attr-defined]
            if self.every_n_validations != 1 and f"{monitor}/".startswith(f"benchmark/{self.title}/"):
                raise InputError(
                    f"expected `every_n_validations: 1` of {type(self).__name__}, whose {monitor} {name} watches "
                    f"behind every validation, got {self.every_n_validations}, which leaves the scores of earlier "
                    "weights there; set it to 1, and validate less often (`trainer.val_check_interval`)"
                )

    def state_dict(self) -> dict[str, Any]:
        """The count of validations."""
        return {"validations": self._validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting from a checkpoint."""
        self._validations = state_dict["validations"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The untrained policy; not after a resume."""
        if self.before_training and trainer.global_step == 0:
            self._run(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """At every n-th validation, never in the sanity check; no policy twice, as between two optimizer steps."""
        if trainer.sanity_checking:
            return
        self._validations += 1
        due = self.every_n_validations and self._validations % self.every_n_validations == 0
        if trainer.state.fn == "validate" or (due and self._last_step != trainer.global_step):
            with averages_in_place(trainer, pl_module, self):
                self._run(trainer, pl_module)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure once in `test`."""
        self._run(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The trained policy, unless validation has just done it."""
        if self._last_step != trainer.global_step:
            with averages_in_place(trainer, pl_module, self, ends=True):
                self._run(trainer, pl_module)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """How many steps there will be is known by now."""
        if self._trial_limit is None and _is_cut_short(trainer):
            self._try_with(_TRIAL_QUESTIONS, trainer)

    def _try_with(self, questions: int, trainer: Trainer) -> None:
        self._trial_limit = questions
        if trainer.is_global_zero:
            log.warning(
                "%s: at most %d questions of each task, because this run is a trial (`trainer.fast_dev_run`, or "
                "stopped within %d steps); `validate` without it asks all",
                *(self.title, questions, _TRIAL_STEPS),
            )

    def limit(self, wanted: int | None) -> int | None:
        """Questions of each task at most; `None` means all."""
        limits = [limit for limit in (wanted, self._trial_limit) if limit is not None]
        return min(limits, default=None)

    def _run(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.is_off:
            return
        self._last_step = trainer.global_step
        with isolate_rng():
            self.measure(trainer, pl_module)


def step_of(trainer: Trainer, pl_module: LightningModule) -> int:
    """Optimizer steps that the policy has taken: what its report is called after."""
    return pl_module.steps_taken if isinstance(pl_module, PreferenceModule) else trainer.global_step


def _is_cut_short(trainer: Trainer) -> bool:
    """Whether a run ends after a few steps without having gone through its epochs."""
    steps, most, batches = num_optimizer_steps(trainer), trainer.max_steps, trainer.limit_train_batches
    all_epochs = isinstance(batches, float) and batches == 1.0 and (most == -1 or steps < most)
    return 0 <= steps <= _TRIAL_STEPS and not all_epochs


def callbacks_of(trainer: Trainer) -> list[ScheduledCallback]:
    """A trainer's callbacks that measure, in its order."""
    return [item for item in trainer.callbacks if isinstance(item, ScheduledCallback)]  # type: ignore[attr-defined]


def log_scores(trainer: Trainer, values: Mapping[str, float], step: int) -> None:
    """Scores for loggers, and for whoever keeps checkpoints by them."""
    trainer.callback_metrics.update({name: torch.tensor(score) for name, score in values.items()})
    for logger in trainer.loggers:
        logger.log_metrics(dict(values), step=step)


def report_folder(trainer: Trainer) -> Path:
    """Where reports of a run lie; to be asked on every process, as it broadcasts."""
    return folder_of_run(trainer) / "benchmarks"
