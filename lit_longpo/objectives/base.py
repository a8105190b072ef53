"""The LightningModule under every objective: builds the policy, scores views, logs. No formulas."""

import dataclasses
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from lit_longpo.batch import PreferenceBatch, Scores, Views, tensor_on
from lit_longpo.checkpoints import (
    finish_epoch,
    gather_random_states,
    load_weights,
    note_validation,
    reopen_epoch,
    restore_random_state,
    rows_so_far,
    run_record,
    validate_now,
    validated_rows,
    validation_due,
)
from lit_longpo.checkpoints.record import flatten
from lit_longpo.checkpoints.resumption import starts_anew
from lit_longpo.engine import (
    ScoringPlan,
    UnsupportedModelError,
    base_model,
    check_routers,
    plan_scoring,
    router_coefficient,
    score,
)
from lit_longpo.engine.leaps import leap_message
from lit_longpo.engine.own_logits import scoring_cost
from lit_longpo.engine.sharing import sharing_rule
from lit_longpo.errors import InputError
from lit_longpo.objectives.averaging import ExampleMeans, StepMean, is_repeated
from lit_longpo.objectives.precision import precision_problem
from lit_longpo.objectives.preference_signal import PreferenceSignal
from lit_longpo.optimization import Optimization, num_optimizer_steps
from lit_longpo.policy.fingerprint import files_fingerprint
from lit_longpo.policy.loading import PolicyConfig, check_vocabulary
from lit_longpo.policy.prompts.prompting import PromptFormat
from lit_longpo.policy.reference import Reference
from lit_longpo.policy.reference_config import ReferenceConfig, copy_problem
from lit_longpo.policy.rope import exact_angles, window_problem
from lit_longpo.policy.trainable import check_training
from lit_longpo.policy.trained_names import check_trained_names
from lit_longpo.policy.weights.freezing import log_size
from lit_longpo.quantized_optimizers import in_words
from lit_longpo.start_checks import check_reach, check_sharing, check_training_rows, reach_of
from lit_longpo.strategies import (
    data_parallel_mesh,
    is_deepspeed,
    is_sharded,
    shard,
    split_by,
    split_while_loading,
    splits_parameters,
)

log = logging.getLogger(__name__)

Metrics = dict[str, Tensor]

# Of the policy: how it is computed, not what is trained.
_HOW = {"policy", "policy.gradient_checkpointing", "policy.attention", "policy.trust_remote_code"}
_ON_THE_BAR = {"loss", "rewards/margins"}


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
        self._signal: PreferenceSignal | None = None  # of the untrained policy, in training only
        self._seen: dict[str, Any] | None = None  # by it, of a checkpoint or when it was said
        self.scoring: ScoringPlan | None = None  # found out at the start
        self.step_loss: Tensor | None = None  # of the last optimizer step, as it is logged
        self._random_states: list[dict[str, Any]] | None = None  # of a checkpoint, until training goes on
        self._validated: int | None = None  # rows before the last validation
        self.metrics_before: dict[str, float] = {}  # of the checkpoint that this run goes on from
        self._validation_due = False  # after a checkpoint that was saved before it
        self.initial_weights: Path | None = None  # a checkpoint whose weights, and nothing else, training starts with
        self._recorded: dict[str, Any] | None = None
        self._names_are_checked = False
        self._of_every_objective = {*vars(self), "_of_every_objective"}

    @property
    @abstractmethod
    def views(self) -> Views:
        """What has to be scored; the data module tokenises and packs nothing else."""

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
        """What decides what is trained, by the command line's names, as it was before training."""
        if self._recorded is None:
            settings = {"model": type(self).__name__} | {f"model.{name}": value for name, value in self.arguments()}
            policy = dataclasses.replace(self.policy, lora=self.policy.trained_lora)
            settings |= {name: value for name, value in flatten("policy", policy) if name not in _HOW}
            settings["policy.files"] = _files(self.policy)
            other = self.reference.config.policy
            if self.views.reference:
                settings |= flatten("reference.policy", other)
                settings |= {} if other is None else {"reference.policy.files": _files(other)}
            self._recorded = settings | self.optimization.settings
        return self._recorded

    def check_names(self) -> None:
        """Refuse names of trained weights that the model has not.

        Once: a large model's shape takes seconds. The command line asks before data are read, `configure_model` for
        everybody else.
        """
        if not self._names_are_checked:
            check_trained_names(self.policy)
            self._names_are_checked = True

    @property
    def is_built(self) -> bool:
        """Whether the policy is there; `configure_model` builds it."""
        return "model" in self._modules

    # Lightning's hooks, in the order they are called.

    def configure_model(self) -> None:
        """Build the policy once; Lightning calls this before it restores a checkpoint.

        Raises:
            ValueError: the strategy would split nothing, or cannot copy what the reference needs a copy of; policy
                and reference would differ in precision; the trainer's numbers mean nothing; or sequences reach beyond
                the model's window.
        """
        if self.is_built:
            return
        strategy = getattr(self._trainer, "strategy", None)
        mesh = data_parallel_mesh(self.device_mesh) if self.device_mesh is not None else None
        self._check(strategy)
        _ = self.settings  # as they are before training; a source that is not there is said here
        if self._trainer is not None and self._trainer.state.fn == TrainerFn.FITTING:
            self.check_names()
            self.optimization.check_trainer(self._trainer)
            check_training_rows(self._trainer)
            if starts_anew(self._trainer) and self.policy.gguf_file is None:  # its configuration takes long to read
                config = self.policy.config()
                check_reach(self._trainer, config)
                check_sharing(self._trainer, config, sharing_rule(config))
        self.prompt_format = self.policy.prompt_format()
        if self.views.reference:
            self.reference.check_tokenizer(self.prompt_format.tokenizer)
        split_while_loading(strategy)
        self.model = self.policy.load()
        check_vocabulary(self.model, self.prompt_format)
        if self.views.reference:
            self.reference.remember(self.model, self.views)
        if self.initial_weights is not None:
            load_weights(self.model, self.initial_weights, self.settings)
        self.strict_loading = self.policy.trains_everything
        log_size(self.model)
        if mesh is not None:
            shard(self.model, mesh)

    def on_fit_start(self) -> None:
        """Refuse unsuitable models, then make sure that every reference value is there."""
        self._find_path()
        config = base_model(self.model).config
        if self._random_states is None:  # a run that goes on has been let in before
            check_reach(self.trainer, config)
        problem = window_problem(reach_of(self.trainer), config)
        if problem is not None and self.trainer.is_global_zero:
            log.warning(problem)
        self._prepare_reference()

    def on_validation_start(self) -> None:
        """A stand-alone `validate` needs reference values too, and the path that `fit` would take."""
        self._find_path()
        self._prepare_reference()
        if self.trainer.sanity_checking:
            self._signal = PreferenceSignal.of(self.views)

    def on_test_start(self) -> None:
        """A stand-alone `test` needs reference values too, and the path that `fit` would take."""
        self._find_path()
        self._prepare_reference()

    def on_train_batch_start(self, batch: PreferenceBatch, batch_idx: int) -> None:
        """After a resume, the first batch draws what it would have drawn: nothing else uses these states between."""
        if self._random_states is not None:
            restore_random_state(self._random_states, self.global_rank, self.trainer.world_size)
            self._random_states = None

    def on_train_start(self) -> None:
        """A step begins with its first row, after a resume too; a validation that was due then comes first."""
        self._step_mean = StepMean()
        self._watch_first_pairs()
        finish_epoch(self.trainer)
        if self._validation_due:
            self._validation_due = False
            validate_now(self.trainer)

    def _watch_first_pairs(self) -> None:
        """Those of the untrained policy; a resumed run knows what was seen of them before."""
        if self.global_step and not self._seen:
            self._signal = None
            return
        self._signal = self._signal or PreferenceSignal.of(self.views)
        self._signal.folder = self.trainer.log_dir  # asked on every rank: it broadcasts
        if self._seen:
            self._signal.go_on(self._seen)
            self._look()

    def _look(self) -> None:
        if self._signal is not None and self._signal.look(self.trainer):
            self._seen, self._signal = self._signal.state(), None

    def training_step(self, batch: PreferenceBatch, batch_idx: int) -> Tensor:
        """The row's share of the loss, which is the mean over all examples of the optimizer step on all ranks."""
        values = self._per_example(batch)
        if self._signal is not None:
            self._signal.add(values, self.global_step)
        loss, means = self._step_mean.add(values, self.trainer)
        if means:
            self._log_means("train", means)
            self._log_learning_rate()
            self.step_loss = means["loss"]
        return loss

    def on_train_batch_end(self, outputs: Any, batch: PreferenceBatch, batch_idx: int) -> None:
        """Between two rows, look once at what the untrained policy made of the first pairs."""
        self._look()

    def on_train_end(self) -> None:
        """A short run has few pairs; what they say is said."""
        if self._signal is not None:
            self._signal.look(self.trainer, last=True)

    def on_after_backward(self) -> None:
        """With the step's last gradient, make all of them the mean over the step's examples."""
        self._step_mean.correct_gradients(self.trainer, self.model)

    def validation_step(self, batch: PreferenceBatch, batch_idx: int) -> Tensor:
        """Mean loss of a validation row."""
        return self._evaluate(batch, is_repeated(self.trainer.val_dataloaders, batch_idx))

    def test_step(self, batch: PreferenceBatch, batch_idx: int) -> Tensor:
        """Mean loss of a test row."""
        return self._evaluate(batch, is_repeated(self.trainer.test_dataloaders, batch_idx))

    def on_validation_epoch_end(self) -> None:
        """Log what one process would, however rows are spread."""
        self._log_evaluated("val")
        if self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking:
            self._validated = rows_so_far(self.trainer)

    def on_test_epoch_end(self) -> None:
        """Log what one process would, however rows are spread."""
        self._log_evaluated("test")

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Optimizer over the trainable parameters; the schedule moves every optimizer step."""
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        embeddings = [module.weight for module in self.model.modules() if isinstance(module, nn.Embedding)]
        optimizer, schedule = self.optimization.build(parameters, num_optimizer_steps(self.trainer), embeddings)
        if self.global_rank == 0 and (precision := in_words(optimizer)):
            log.info(precision)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add random states and what the run was; leave frozen weights out, unless sharded or random."""
        reopen_epoch(checkpoint)
        note_validation(checkpoint, self.trainer, self._validated)
        checkpoint["random_states"] = gather_random_states()
        checkpoint["first_pairs"] = self._seen if self._signal is None else self._signal.state()
        checkpoint["run"] = run_record(self.trainer, type(self).__name__)
        found_again = self.policy.weights != "random" and not is_sharded(self.model)
        if not self.policy.trains_everything and found_again and "state_dict" in checkpoint:
            trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
            checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in trained}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A part is loaded non-strictly, so check here that none is missing; strategies that shard load apart."""
        self._random_states = checkpoint.get("random_states")
        self._seen = checkpoint.get("first_pairs")
        self._validation_due = validation_due(checkpoint)
        self._validated = validated_rows(checkpoint)
        self.metrics_before = dict(checkpoint.get("run", {}).get("metrics", {}))
        if "state_dict" not in checkpoint:
            return
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        missing = sorted(trained - set(checkpoint["state_dict"]))
        if missing:
            raise InputError(
                f"the checkpoint lacks {len(missing)} trained tensors of this policy, for example {missing[0]!r}; "
                "resume with the `policy` section that the checkpoint was trained with (config.yaml beside it)"
            )

    # Scoring.

    def _per_example(self, batch: PreferenceBatch) -> Metrics:
        """Losses, with their graph and times the pairs' own weights, and metrics. Shape of each: (B,)."""
        policy = score(self.model, batch.policy, router_loss=self.optimization.router_loss != 0)
        if batch.margins is not None:
            policy = dataclasses.replace(policy, margins=batch.margins)
        reference = None if batch.reference is None else self.reference.scores(self.model, batch.reference)
        losses, metrics = self.loss(policy, reference)
        losses = losses if batch.weights is None else losses * batch.weights
        if policy.router_loss is not None:
            config = base_model(self.model).config
            losses = losses + router_coefficient(self.optimization.router_loss, config) * policy.router_loss
            metrics = {**metrics, "router_loss": policy.router_loss.detach().expand_as(losses)}
        return {"loss": losses, **metrics}

    def _evaluate(self, batch: PreferenceBatch, repeated: bool) -> Tensor:
        values = self._per_example(batch)
        if self.trainer.sanity_checking and self._signal is not None and not repeated:
            self._signal.add(values)
        self._evaluated.add(values, counted=not repeated, sources=batch.sources)
        return values["loss"].mean()

    def _log_evaluated(self, stage: str) -> None:
        means, _ = self._evaluated.over_all_ranks(self.trainer.strategy.reduce)
        self._evaluated = ExampleMeans()
        self._log_means(stage, means)

    def _log_means(self, stage: str, means: Metrics) -> None:
        """Log what all ranks agree on already; `sync_dist` keeps Lightning from warning that they might not."""
        sync = stage != "train"
        for name, mean in means.items():
            self.log(f"{stage}/{name}", mean, prog_bar=name in _ON_THE_BAR, batch_size=1, sync_dist=sync)

    def _log_learning_rate(self) -> None:
        """The step's; all parameters share one. A number would wait for the GPU on its way there."""
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.log("train/learning_rate", tensor_on(self.device, [float(rate)], torch.float32)[0], batch_size=1)

    def _find_path(self) -> None:
        """Packed rows, or one sequence at a time; found out and said once."""
        exact_angles(self.model)
        if self.scoring is not None:
            return
        self.scoring = plan_scoring(self.model)
        if self.scoring.path == "packed":
            log.info("packed rows agree with separate rows (relative error %.1e)", self.scoring.error)
        elif self.trainer.is_global_zero:
            log.warning("%s; %s", self.scoring.cause, scoring_cost(base_model(self.model), self.views))
        if self.scoring.no_leaps and getattr(getattr(self.trainer, "datamodule", None), "leaps", False):
            raise UnsupportedModelError(leap_message(base_model(self.model), self.scoring.no_leaps))
        check_sharing(self.trainer, base_model(self.model).config, self.scoring.no_sharing)

    def _prepare_reference(self) -> None:
        if self.views.reference:
            self.reference.prepare(self.model, self.trainer)

    def _check(self, strategy: object) -> None:
        """Refuse what would make another policy or reference than the configuration says."""
        check_training(self.policy, split_by(strategy))
        precision = "32-true" if self._trainer is None else str(self.trainer.precision)
        lora, deepspeed = self.policy.trained_lora, is_deepspeed(strategy)
        whole = lora is None or bool(lora.also_train)
        if self.optimization.router_loss:
            check_routers(self.policy.original_config())
        problem = precision_problem(self.policy.dtype, precision, deepspeed=deepspeed, trains_weights=whole)
        if problem is None and self.views.reference and splits_parameters(strategy):
            problem = copy_problem(self.reference.config, self.policy)
        if problem:
            raise InputError(problem)


def preference_metrics(chosen_rewards: Tensor, rejected_rewards: Tensor) -> Metrics:
    """Reward metrics under TRL's names. Shapes: (B,) each."""
    margins = (chosen_rewards - rejected_rewards).detach()
    return {
        "rewards/chosen": chosen_rewards.detach(),
        "rewards/rejected": rejected_rewards.detach(),
        "rewards/margins": margins,
        "rewards/accuracies": (margins > 0).to(margins.dtype),
    }


def _files(policy: PolicyConfig) -> str | None:
    """What the files hold that a model is read from, those of adapters too; `None` if they are on a hub."""
    adapters = policy.adapter_folder()
    folders = [policy.folder, None if adapters is None else adapters.path]
    return "-".join(filter(None, (files_fingerprint(folder) for folder in folders if folder is not None))) or None
