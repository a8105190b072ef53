"""Checks and messages at the start of a fit: before the policy is loaded, and once it is."""

import inspect
import logging
from collections.abc import Collection

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.optim import Optimizer

from lit_longpo.batch import Views
from lit_longpo.checkpoints.loops import model_checkpoints
from lit_longpo.checkpoints.loops.last_steps import COUNTS
from lit_longpo.engine import ScoringPlan, UnsupportedModelError, base_model, plan_scoring
from lit_longpo.engine.scoring import leap_message
from lit_longpo.engine.sequential.own_logits import scoring_cost
from lit_longpo.errors import InputError
from lit_longpo.optimization import Optimization
from lit_longpo.optimization.quantized import in_words
from lit_longpo.policy.loading import PolicyConfig
from lit_longpo.policy.weights.dropout import sampling_problem
from lit_longpo.run_folder import keeps_nothing
from lit_longpo.strategies import check_steps
from lit_longpo.training.callback_checks import check_beside, check_callbacks
from lit_longpo.training.monitors import check_validated
from lit_longpo.training.precision import trained_dtype
from lit_longpo.training.row_checks import check_rows, check_rows_can_share, data_attribute

log = logging.getLogger(__name__)

# Arguments of an objective that are recorded as sections of their own, or as what they hold.
_SECTIONS = {"policy", "optimization", "reference", "algorithm"}
_FEW_STEPS = 10
_POINTS = 10  # of a short run's curve


def check_fit(trainer: Trainer, policy: PolicyConfig, optimization: Optimization) -> None:
    """Refuse, before the policy is loaded, callbacks, optimizers and rows with which it could not be trained."""
    trained = trained_dtype(policy.dtype, str(trainer.precision), policy.trained_lora)
    check_callbacks(getattr(trainer, "callbacks", []), getattr(trainer, "strategy", None), trained)
    check_beside(trainer)
    check_steps(trainer)
    if policy.gguf_file is None and (problem := sampling_problem(policy.original_config())):
        raise InputError(problem)
    optimization.check_trainer(trainer, vectors=policy.trains_everything)
    check_rows(trainer, policy)
    check_validated(trainer)
    if trainer.is_global_zero and not optimization.router_loss:
        warn_of_routers(policy)


def check_recorded(objective: type, recorded: Collection[str]) -> None:
    """Refuse an objective with an argument that it does not record: a resume under another value would go on.

    Args:
        objective: its class.
        recorded: names of its `arguments()`.
    """
    parameters = inspect.signature(objective).parameters.values()
    passed_on = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    own = {parameter.name for parameter in parameters if parameter.kind not in passed_on}
    if lost := sorted(own - _SECTIONS - {*recorded}):
        raise InputError(
            f"expected {objective.__name__} to record each of its arguments, got none for {', '.join(lost)}, so a "
            f"checkpoint of another value would be continued; write `self.{lost[0]} = {lost[0]}` in `__init__`, or "
            f"give its PairwiseAlgorithm a field `{lost[0]}`"
        )


def warn_of_routers(policy: PolicyConfig) -> None:
    """Warn if a model's own settings ask for the load-balancing loss of its routers, which no objective adds."""
    config = None if policy.gguf_file else policy.original_config().get_text_config()
    if getattr(config, "output_router_logits", False):
        log.warning(
            "the model's configuration asks for the load-balancing loss of its routers (`output_router_logits`), which "
            "is left out; type --optimization.router_loss model to add it"
        )


def find_scoring_path(model: nn.Module, views: Views, trainer: Trainer) -> ScoringPlan:
    """How the policy is scored, in packed rows or one sequence at a time; logs which, and what it costs.

    Raises:
        UnsupportedModelError: no way gives the model's own log-probabilities, or the data have synthesised positions
            and it cannot be scored at them.
        TrainingModeError: in training mode its log-probabilities differ from those in eval mode.
        InputError: rows only keep their budget by sharing prompts, which the model cannot.
    """
    found = plan_scoring(model)
    if found.path == "packed":
        log.info("packed rows agree with separate rows (relative error %.1e)", found.error)
    elif trainer.is_global_zero:
        log.warning("%s; %s", found.cause, scoring_cost(base_model(model), views))
    if found.no_leaps and data_attribute(trainer, "leaps", False):
        raise UnsupportedModelError(leap_message(base_model(model), found.no_leaps))
    check_rows_can_share(trainer, base_model(model).config, found.no_sharing)
    return found


def log_precision(optimizer: Optimizer, trainer: Trainer) -> None:
    """Log in which precision an optimizer keeps its states, where that is not fp32."""
    if trainer.is_global_zero and (precision := in_words(optimizer)):
        log.info(precision)


def warn_of_steps(trainer: Trainer, steps: int) -> None:
    """Warn if a run ends before `trainer.min_steps` or `max_steps`, or has so few steps that nothing is learnt."""
    if not trainer.is_global_zero:
        return
    if 0 <= steps < (trainer.min_steps or 0) and not keeps_nothing(trainer):
        log.warning(
            "`trainer.min_steps: %d` is not reached: the training ends with %d optimizer steps (`trainer.max_epochs: "
            "%s`, `trainer.max_steps: %d`); type --trainer.max_epochs -1 --trainer.max_steps %d to train for so many",
            *(trainer.min_steps, steps, trainer.max_epochs, trainer.max_steps, trainer.min_steps),
        )
    elif 0 <= steps < trainer.max_steps and not keeps_nothing(trainer):  # in transformers it overrules `max_epochs`
        log.warning(
            "`trainer.max_steps: %d` is not reached: the training ends with `trainer.max_epochs: %s`, which has %d "
            "optimizer steps; type --trainer.max_epochs -1 to train for %d steps",
            *(trainer.max_steps, trainer.max_epochs, steps, trainer.max_steps),
        )
    else:
        _warn_of_few_steps(trainer, steps)


def warn_of_warmup(trainer: Trainer, optimization: Optimization, steps: int) -> None:
    """Warn if `optimization.warmup_fraction` is less than half a step of a run of some length."""
    fraction = optimization.warmup_fraction
    if steps < _FEW_STEPS or not fraction or optimization.warmup_steps(steps) or not trainer.is_global_zero:
        return
    log.warning(
        "`optimization.warmup_fraction: %g` of %d steps is less than half a step: there is no warm-up, and the first "
        "step has the whole rate; type --optimization.warmup_fraction %.2g for one of two steps, or 0",
        *(fraction, steps, 2 / steps),
    )


def warn_of_unkept(trainer: Trainer) -> None:
    """Warn if no checkpoint will hold the weights of the last step: only the best ones are kept, or none at all."""
    callbacks = model_checkpoints(trainer)
    if not callbacks or keeps_nothing(trainer) or not trainer.is_global_zero:
        return
    keeping = [each for each in callbacks if each.save_top_k or each.save_last]
    if not keeping:
        log.warning(
            "ModelCheckpoint with `save_top_k: 0` keeps no checkpoint, not even of the last step: nothing can go on "
            "from this training; set save_top_k: 1 in its init_args"
        )
    elif all(map(_keeps_best_alone, keeping)):
        log.warning(
            "ModelCheckpoint with `monitor: %s` keeps the best weights alone: those of the last step, from which a "
            "training goes on, will be in no checkpoint; add save_last: true to its init_args",
            keeping[0].monitor,
        )


def _keeps_best_alone(callback: ModelCheckpoint) -> bool:
    return callback.monitor not in (None, *COUNTS) and not callback.save_last and callback.save_top_k != -1


def log_short_run(trainer: Trainer, steps: int, *, typed: bool = False) -> None:
    """Log a short run more often if its curve would have no point, or a single one.

    Args:
        trainer: about to fit.
        steps: number of steps its optimizer will take; -1 if not known.
        typed: whether the user has typed `log_every_n_steps`; then it is kept, and the log says what would help.
    """
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # Lightning's connector sets it
    if not 0 < steps < 2 * every or not trainer.loggers or keeps_nothing(trainer):
        return
    often, points = max(1, steps // _POINTS), "one point" if steps >= every else "no point"
    if often < every and trainer.is_global_zero:
        message = (
            "the curve of %d steps will have %s with `trainer.log_every_n_steps: %d`, as typed; type %d for a curve"
            if typed
            else "the curve of %d steps would have %s with `trainer.log_every_n_steps: %d`: it is %d"
        )
        log.info(message, steps, points, every, often)
    if not typed:
        trainer.log_every_n_steps = often  # type: ignore[attr-defined]


def _warn_of_few_steps(trainer: Trainer, steps: int) -> None:
    """Warn if the data give so few steps that nothing is learnt, unless the user has asked for so few."""
    wanted = steps == trainer.max_steps or isinstance(trainer.limit_train_batches, int)
    if wanted or not 0 <= steps < _FEW_STEPS:
        return
    rows = trainer.accumulate_grad_batches
    fewer = f"--trainer.accumulate_grad_batches 1 (a step has {rows} rows), " if rows > 1 else ""
    log.warning(
        "the data make %d optimizer %s in all, which change little; type %s--trainer.max_epochs %d, or bring more "
        "pairs",
        *(steps, "step" if steps == 1 else "steps", fewer, 3 * (trainer.max_epochs or 1)),
    )
