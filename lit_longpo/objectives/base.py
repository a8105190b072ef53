"""The LightningModule under every objective: builds the policy, scores views, logs. No formulas."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from lit_longpo.batch import PreferenceBatch, Scores, Views
from lit_longpo.checkpoints import (
    begin_next_epoch,
    draw_apart,
    finish_epoch,
    keep_patience,
    load_initial_weights,
    remember_best,
    start_settings,
)
from lit_longpo.checkpoints.record import flatten
from lit_longpo.engine import ScoringPlan, base_model, router_coefficient, score
from lit_longpo.objectives.rewards import Metrics
from lit_longpo.optimization import Optimization, num_optimizer_steps, undecayed
from lit_longpo.policy.loading import PolicyConfig
from lit_longpo.policy.prompts.prompting import PromptFormat
from lit_longpo.policy.reference.config import ReferenceConfig
from lit_longpo.policy.reference.reference import Reference
from lit_longpo.policy.trained_names import check_trained_names
from lit_longpo.policy.weights.freezing import log_size
from lit_longpo.policy.weights.full_precision import FullPrecision
from lit_longpo.policy.weights.untrained_end import warn_of_untrained_end
from lit_longpo.policy.weights.vocabulary import check_vocabulary
from lit_longpo.strategies import (
    check_reached,
    data_parallel_mesh,
    ends_step,
    is_sharded,
    keep_frozen,
    rows_of_a_step,
    shard,
    split_while_loading,
)
from lit_longpo.training.averaging import ExampleMeans, StepMean, is_repeated, log_learning_rate, log_means
from lit_longpo.training.callback_checks import check_averages
from lit_longpo.training.checked_losses import checked_losses
from lit_longpo.training.first_pairs import FirstPairs
from lit_longpo.training.monitors import check_known
from lit_longpo.training.resuming import Resumption, check_holds_trained, leave_frozen_out
from lit_longpo.training.row_checks import check_evaluated_rows, check_reach, warn_of_window
from lit_longpo.training.sections import Sections
from lit_longpo.training.start import (
    check_fit,
    check_recorded,
    find_scoring_path,
    log_precision,
    log_short_run,
    warn_of_steps,
    warn_of_unkept,
    warn_of_warmup,
)


class PreferenceModule(LightningModule, ABC):
    """Trains a policy with one objective over the packed-row engine.

    Subclasses say which views they want (`views`) and how scores become losses (`loss`).

    Args:
        policy: which model is trained; the command line fills it from the top-level key `policy`.
        optimization: optimizer and schedule; from the top-level key `optimization`.
        reference: source of reference log-probabilities; from the top-level key `reference`.
    """

    model: nn.Module
    synthesises_positions: ClassVar[bool] = False  # whether its paper trains at positions that the data module draws

    def __init__(
        self,
        policy: PolicyConfig | None = None,
        optimization: Optimization | None = None,
        reference: ReferenceConfig | None = None,
    ) -> None:
        super().__init__()
        self.policy = policy or PolicyConfig()
        self.optimization = optimization or Optimization()
        self.reference = Reference(reference or ReferenceConfig(), self.policy)
        self.prompt_format: PromptFormat | None = None
        self._step_mean, self._evaluated = StepMean(), ExampleMeans()
        self._first_pairs = FirstPairs()
        self.scoring: ScoringPlan | None = None  # found out at the start
        self.step_loss: Tensor | None = None  # of the last optimizer step, as it is logged
        self._resumption = Resumption()
        self.initial_weights: Path | None = None  # a checkpoint whose weights, and nothing else, training starts with
        self.log_interval_is_typed = False  # then a short run is not logged more often
        self._recorded: dict[str, Any] | None = None
        self._full_precision: FullPrecision | None = None  # of the policy, before a strategy has converted it
        self._names_are_checked = self._monitors_are_checked = False
        # Attributes that subclasses add are their arguments.
        self._of_every_objective = {*vars(self), "_of_every_objective"}

    @property
    @abstractmethod
    def views(self) -> Views:
        """The views that have to be scored; the data module tokenises and packs nothing else."""

    @abstractmethod
    def loss(self, policy: Scores, reference: Scores | None) -> tuple[Tensor, Metrics]:
        """Per-example losses and detached per-example metrics. Shape of each: (B,)."""

    def arguments(self) -> Iterator[tuple[str, Any]]:
        """The objective's own arguments by the names that the command line gives them: its public attributes."""
        for name, value in vars(self).items():
            if name not in self._of_every_objective and not name.startswith("_"):
                yield from flatten(name, value)

    @property
    def settings(self) -> dict[str, Any]:
        """Every setting that decides what is trained, as it was before training, by its command-line name."""
        if self._recorded is None:
            own = self._sections.settings(type(self).__name__, self.arguments())
            self._recorded = own | start_settings(self.initial_weights)
        return self._recorded

    @property
    def _sections(self) -> Sections:
        return Sections(self.policy, self.optimization, self.reference.config, self.views)

    @property
    def metrics_before(self) -> dict[str, float]:
        """Metrics of the checkpoint that this run resumed from; empty without one."""
        return self._resumption.metrics_before

    def check_names(self) -> None:
        """Refuse names in `policy.lora`, `freeze` or `train_only` that match no weight of the model.

        Checked once, because building the shape of a large model takes seconds. The command line calls this before
        data are read; `configure_model` calls it for users of the Python API.
        """
        if not self._names_are_checked:
            check_trained_names(self.policy)
            self._names_are_checked = True

    @property
    def is_built(self) -> bool:
        """Whether the policy is there; `configure_model` builds it."""
        return "model" in self._modules

    @property
    def _fits(self) -> bool:
        """Whether this is a training; without a trainer it may become one."""
        return self._trainer is None or self._trainer.state.fn == TrainerFn.FITTING

    # Lightning's hooks, in the order they are called.

    def configure_model(self) -> None:
        """Build the policy once; Lightning calls this before it restores a checkpoint.

        Raises:
            InputError: the strategy would split nothing, or cannot copy what the reference needs a copy of; policy
                and reference would differ in precision; the trainer's numbers mean nothing; or sequences reach beyond
                the model's window.
        """
        if self.is_built:
            return
        strategy = getattr(self._trainer, "strategy", None)
        mesh = data_parallel_mesh(self.device_mesh) if self.device_mesh is not None else None
        precision = "32-true" if self._trainer is None else str(self._trainer.precision)
        self.prompt_format = self._check_before_loading(strategy, precision)
        split_while_loading(strategy)
        if self.policy.weights == "random":
            keep_frozen(strategy)
        self.model = self.policy.load()
        check_vocabulary(self.model, self.prompt_format.tokenizer)
        if self._fits:
            warn_of_untrained_end(self.model, self.prompt_format)
        if self.views.reference:  # which is the policy as it is now, before other weights are put in and split
            self.reference.remember(self.model, self.views)
        if self.initial_weights is not None:
            self._start_from(self.initial_weights)
        self._full_precision = self._sections.kept_whole(self.model, strategy, precision)
        self.strict_loading = self.policy.trains_everything
        log_size(self.model)
        if mesh is not None:
            shard(self.model, mesh)

    def _check_before_loading(self, strategy: object, precision: str) -> PromptFormat:
        """Refuse what can be refused before weights are read, which may take minutes; the policy's prompt format."""
        self._sections.check(strategy, precision, fits=self._fits)
        _ = self.settings  # as they are before training; a source that is not there is said here
        if self._trainer is not None and self._fits:
            self.check_names()
            check_recorded(type(self), {name for name, _ in self.arguments()})
            check_fit(self._trainer, self.policy, self.optimization)
        prompt_format = self.policy.prompt_format()
        if self.views.reference:
            self.reference.check_tokenizer(prompt_format.tokenizer)
        return prompt_format

    def _start_from(self, checkpoint: Path) -> None:
        """Put the weights of a checkpoint into the policy; the reference stays what it is."""
        load_initial_weights(self.model, checkpoint, self.settings)
        if self.views.reference and self._fits:
            self.reference.warn_of_other_start(checkpoint)

    def on_fit_start(self) -> None:
        """Refuse unsuitable models, then make sure that every reference value is there."""
        self._find_scoring_path()
        config = base_model(self.model).config
        if self._resumption.random_states is None:  # a run that goes on has been let in before
            check_reach(self.trainer, config)
        warn_of_window(self.trainer, config)
        self._prepare_reference()

    def on_validation_start(self) -> None:
        """A stand-alone `validate` needs reference values too, and the path that `fit` would take."""
        check_evaluated_rows(self.trainer, self.model, self.trainer.num_val_batches)
        self._prepare_scoring()
        if self.trainer.sanity_checking:
            self._first_pairs.begin(self.views)

    def on_test_start(self) -> None:
        """A stand-alone `test` needs reference values too, and the path that `fit` would take."""
        check_evaluated_rows(self.trainer, self.model, self.trainer.num_test_batches)
        self._prepare_scoring()

    def on_train_batch_start(self, batch: PreferenceBatch, batch_idx: int) -> None:
        """Restore the random states of a checkpoint right before the first batch, so that nothing else uses them."""
        self._resumption.restore_random_states(self.global_rank, self.trainer)
        # Lightning asks a schedule where an epoch begins, but not where a run goes on inside one.
        self.trainer.accumulate_grad_batches = rows_of_a_step(self.trainer, self.trainer.current_epoch)

    def on_train_start(self) -> None:
        """Start at the first row of a step; after a resume first run the validation or epoch end that was due."""
        draw_apart(self.global_rank)
        self._step_mean = StepMean()
        self._first_pairs.watch(self.views, self.trainer)
        self._first_pairs.ask(self._per_example, self.model, self.trainer)
        self._resumption.restore_metrics(self.trainer)
        self._resumption.settle_schedule(self.trainer, self.optimization)
        finish_epoch(self.trainer)
        self._resumption.validate_if_due(self.trainer)
        begin_next_epoch(self.trainer)

    def training_step(self, batch: PreferenceBatch, batch_idx: int) -> Tensor:
        """The row's share of the loss, the mean over all examples of the optimizer step on all ranks. Shape: ()."""
        values = self._per_example(batch)
        self._first_pairs.add(values, self.global_step)
        loss, means = self._step_mean.add(values, self.trainer)
        if means:
            log_means(self, "train", means)
            log_learning_rate(self)
            self.step_loss = means["loss"]
        return loss

    def on_train_batch_end(self, outputs: Any, batch: PreferenceBatch, batch_idx: int) -> None:
        """Free a step's gradients; check the metrics that callbacks monitor; report on the first pairs once."""
        if ends_step(self.trainer):  # Lightning holds them until the next backward begins
            for optimizer in self.trainer.optimizers:
                optimizer.zero_grad()
        if self.step_loss is not None and not self._monitors_are_checked:
            self._monitors_are_checked = True
            check_known(self.trainer)
        self._first_pairs.look(self.trainer)

    def on_train_end(self) -> None:
        """Report on the first pairs of a run that was too short to report earlier."""
        self._first_pairs.end(self.trainer)

    def on_after_backward(self) -> None:
        """After a step's last backward pass, rescale the gradient to the mean over all examples of the step."""
        check_reached(self.trainer, self.model)
        self._step_mean.correct_gradients(self.trainer, self.model)

    def validation_step(self, batch: PreferenceBatch, batch_idx: int) -> Tensor:
        """Mean loss of a validation row. Shape: ()."""
        return self._evaluate(batch, is_repeated(self.trainer.val_dataloaders, batch_idx))

    def test_step(self, batch: PreferenceBatch, batch_idx: int) -> Tensor:
        """Mean loss of a test row. Shape: ()."""
        return self._evaluate(batch, is_repeated(self.trainer.test_dataloaders, batch_idx))

    def on_validation_epoch_end(self) -> None:
        """Log means over the validation examples of all ranks, each example counted once."""
        self._log_evaluated("val")
        self._resumption.note_validation(self.trainer)

    def on_test_epoch_end(self) -> None:
        """Log means over the test examples of all ranks, each example counted once."""
        self._log_evaluated("test")

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Optimizer over the trainable parameters; the schedule moves every optimizer step."""
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        embeddings = [module.weight for module in self.model.modules() if isinstance(module, nn.Embedding)]
        steps = num_optimizer_steps(self.trainer)
        optimizer, schedule = self.optimization.build(parameters, steps, embeddings, undecayed(self.model))
        log_precision(optimizer, self.trainer)
        warn_of_steps(self.trainer, steps)
        warn_of_warmup(self.trainer, self.optimization, steps)
        warn_of_unkept(self.trainer)
        log_short_run(self.trainer, steps, typed=self.log_interval_is_typed)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add random states and a record of the run; leave out frozen weights, unless they are sharded or random."""
        self._resumption.save(checkpoint, self.trainer, type(self).__name__)
        checkpoint["first_pairs"] = self._first_pairs.state()
        if not self.policy.trains_everything and self.policy.weights != "random" and not is_sharded(self.model):
            leave_frozen_out(checkpoint, self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the run's state, and check that no trained weight is missing, since Lightning loads non-strictly."""
        if self._trainer is not None and self._fits:
            check_averages(getattr(self._trainer, "callbacks", []), checkpoint)
            remember_best(self._trainer, checkpoint)
            keep_patience(self._trainer, checkpoint)
        self._resumption.load(checkpoint)
        self._first_pairs.load(checkpoint.get("first_pairs"))
        check_holds_trained(checkpoint, self)

    @property
    def steps_taken(self) -> int:
        """Optimizer steps that the weights have been trained for; in `validate` and `test` those of the checkpoint."""
        return self._resumption.num_steps(self.trainer)

    # Scoring.

    def _per_example(self, batch: PreferenceBatch) -> Metrics:
        """Losses (with gradients, multiplied by the pairs' own weights) and metrics. Shape of each: (B,)."""
        policy = score(self.model, batch.policy, router_loss=self.optimization.router_loss != 0)
        if batch.margins is not None:
            policy = dataclasses.replace(policy, margins=batch.margins)
        reference = None if batch.reference is None else self.reference.scores(self.model, batch.reference)
        losses, metrics = checked_losses(type(self).__name__, self.loss(policy, reference), policy)
        losses = losses if batch.weights is None else losses * batch.weights
        if policy.router_loss is not None:
            config = base_model(self.model).config
            losses = losses + router_coefficient(self.optimization.router_loss, config) * policy.router_loss
            metrics = {**metrics, "router_loss": policy.router_loss.detach().expand_as(losses)}
        return {"loss": losses, **metrics}

    def _evaluate(self, batch: PreferenceBatch, repeated: bool) -> Tensor:
        values = self._per_example(batch)
        if self.trainer.sanity_checking and not repeated:
            self._first_pairs.add(values)
        self._evaluated.add(values, counted=not repeated, sources=batch.sources)
        return values["loss"].mean()

    def _log_evaluated(self, stage: str) -> None:
        means, _ = self._evaluated.over_all_ranks(self.trainer.strategy.reduce)
        self._evaluated = ExampleMeans()
        log_means(self, stage, means)

    def _find_scoring_path(self) -> None:
        """Find out once how the model can be scored: in packed rows, or one sequence at a time."""
        if self._full_precision is not None:
            self._full_precision.restore(self.model)
        if self.scoring is None:
            self.scoring = find_scoring_path(self.model, self.views, self.trainer)

    def _prepare_scoring(self) -> None:
        self._find_scoring_path()
        self._prepare_reference()

    def _prepare_reference(self) -> None:
        if self.views.reference:
            self.reference.prepare(self.model, self.trainer)
