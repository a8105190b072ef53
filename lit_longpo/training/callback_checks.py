"""Refuses Lightning callbacks that would save the wrong weights, stop at the wrong step, or do nothing here."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BatchSizeFinder,
    DeviceStatsMonitor,
    EarlyStopping,
    GradientAccumulationScheduler,
    LearningRateFinder,
    LearningRateMonitor,
    ModelCheckpoint,
    ModelPruning,
    OnExceptionCheckpoint,
    SpikeDetection,
    StochasticWeightAveraging,
    WeightAveraging,
)
from lightning.pytorch.plugins import BitsandbytesPrecision

from lit_longpo.checkpoints.loops.last_steps import COUNTS
from lit_longpo.errors import InputError
from lit_longpo.strategies import is_deepspeed, split_by
from lit_longpo.training.monitors import OF_TRAINING

_BETTER_BELOW = {"loss", "nll", "perplexity"}
_BETTER_ABOVE = {"accuracies", "accuracy", "margins", "em", "f1", "sub_em"}
# All of our benchmarks' numbers are scores; of the harness, whose tasks also measure errors and biases, only these.
_SCORES = re.compile(r"benchmark/(?!lm_eval[-/])|.*/(acc|exact_match|f1|bleu|chrf|rouge)[^/]*$")
_NO_SCORES = re.compile("perplexity|ppl|bits|loss|brier|error|distance")
# What they look for is called otherwise here, and is no number of the module's.
_INSTEAD: dict[type[Callback], str] = {
    LearningRateFinder: "take it out, and type --optimization.optimizer.init_args.lr",
    BatchSizeFinder: "take it out: python -m lit_longpo plan --longest finds the row that fits",
    BackboneFinetuning: "take it out, and set `policy.freeze` or `policy.train_only`",
    # It copies the objective before it has a policy, and then averages no parameters.
    StochasticWeightAveraging: "take EMAWeightAveraging, or WeightAveraging",
    ModelPruning: "take it out: weights keep their names here, and none is left out",
    # A row's loss is its share of the step's, larger where it has more examples; and its own state is never read back.
    SpikeDetection: "take it out: the losses that it would compare are shares of a step's, and no run goes on from "
    "its checkpoints (Lightning#21752); NonFiniteGuard stops at what is no number",
}
_WRITES_HALF_STEPS = (
    "which writes in the middle of a row: a run that goes on from there leaves out that row and the others of its step"
)


def check_callbacks(callbacks: list[Callback], strategy: object = None, trained: str = "float32") -> None:
    """Refuse callbacks that would silently choose the wrong weights, or fail only late in the run."""
    for callback in callbacks:
        problem = next(_problems(callback, strategy, trained), None)
        if problem is not None:
            raise InputError(problem)
    _check_saved_average(callbacks)


def _check_saved_average(callbacks: list[Callback]) -> None:
    """Refuse `save_weights_only` beside averaging: Lightning 2.6 then saves the trained weights, not the average."""
    average = next((type(each).__name__ for each in callbacks if isinstance(each, WeightAveraging)), None)
    if average and any(isinstance(each, ModelCheckpoint) and each.save_weights_only for each in callbacks):
        raise InputError(
            f"expected whole checkpoints beside {average}, got a ModelCheckpoint with `save_weights_only`, which would "
            "hold the last weights in place of the average that is validated; leave `save_weights_only` out (python -m "
            "lit_longpo export makes a model of the average)"
        )


def check_beside(trainer: Trainer) -> None:
    """Refuse callbacks and plugins that conflict with other settings.

    Lightning reports these conflicts only after everything is loaded, or not at all.
    """
    if isinstance(getattr(trainer, "precision_plugin", None), BitsandbytesPrecision):
        raise InputError(
            "expected `policy.quantization: 4bit`, which holds policy and reference in the same 4 bits, got the plugin "
            "BitsandbytesPrecision, which would convert the policy alone, after it is loaded; take it out of "
            "`trainer.plugins`, and type --policy.quantization 4bit"
        )
    for callback in getattr(trainer, "callbacks", ()):
        name = type(callback).__name__
        if isinstance(callback, GradientAccumulationScheduler) and is_deepspeed(trainer.strategy):
            raise InputError(
                f"expected one number of rows a step under DeepSpeed, got {name}, which changes it between epochs; "
                "take it out, and type --trainer.accumulate_grad_batches N"
            )
        if isinstance(callback, GradientAccumulationScheduler) and trainer.accumulate_grad_batches != 1:
            raise InputError(
                f"expected `trainer.accumulate_grad_batches: 1` beside {name}, whose schedule says how many rows a "
                f"step has, got {trainer.accumulate_grad_batches}; type --trainer.accumulate_grad_batches 1"
            )
        if isinstance(callback, LearningRateMonitor | DeviceStatsMonitor) and not trainer.loggers:
            raise InputError(
                f"expected a logger beside {name}, got none; take {name} out (CSVLogger and others come with `trainer."
                "logger`; `train/learning_rate` is logged without it)"
            )


def check_averages(callbacks: list[Callback], checkpoint: Mapping[str, Any]) -> None:
    """Refuse to resume training from averaged weights: the optimizer's states belong to the unaveraged ones.

    Raises:
        InputError: the checkpoint holds an average, and no averaging callback would restore the trained weights.
    """
    if "current_model_state" in checkpoint and not any(isinstance(each, WeightAveraging) for each in callbacks):
        raise InputError(
            "expected EMAWeightAveraging (or WeightAveraging) in `trainer.callbacks`, with which this checkpoint was "
            "written, got none: training would continue from the averaged weights; add it again, or start anew from "
            "the average with --initial_weights instead of --ckpt_path"
        )


def _problems(callback: Callback, strategy: object, trained: str) -> Iterator[str]:
    name = type(callback).__name__
    for kind, instead in _INSTEAD.items():
        if isinstance(callback, kind):
            yield f"expected callbacks that objectives here can serve in `trainer.callbacks`, got {name}; {instead}"
    yield from _at_an_error(callback)
    if isinstance(callback, WeightAveraging):
        yield from _not_averaged(name, strategy)
        yield from _averaged_late_or_not_at_all(callback, trained)
    if isinstance(callback, ModelCheckpoint | EarlyStopping) and callback.monitor:
        yield from _wrong_way(name, callback.monitor, callback.mode)
    if isinstance(callback, ModelCheckpoint) and callback.monitor:
        yield from _too_early(callback, callback.monitor)


def _at_an_error(callback: Callback) -> Iterator[str]:
    """Problems of callbacks that save when an exception is raised: such a checkpoint lies inside a step.

    SIGTERM and Ctrl-C leave a checkpoint between two steps without them.
    """
    expected = "expected checkpoints between two steps from `trainer.callbacks`, got"
    instead = "`every_n_train_steps` of a ModelCheckpoint says how many steps an error costs"
    if isinstance(callback, OnExceptionCheckpoint):
        yield f"{expected} OnExceptionCheckpoint, {_WRITES_HALF_STEPS}; take it out: {instead}"
    if isinstance(callback, ModelCheckpoint) and callback.save_on_exception:
        yield f"{expected} ModelCheckpoint with `save_on_exception`, {_WRITES_HALF_STEPS}; leave it out: {instead}"


def _not_averaged(name: str, strategy: object) -> Iterator[str]:
    """Problems of averaging under strategies that split weights: it would average slices, or lose the average."""
    splits = "DeepSpeed" if is_deepspeed(strategy) else split_by(strategy)
    if splits:
        yield (
            f"expected a strategy that leaves whole weights on every rank beside {name}, got {splits}; type "
            f"--trainer.strategy ddp, or take {name} out"
        )


def _averaged_late_or_not_at_all(callback: WeightAveraging, trained: str) -> Iterator[str]:
    """Problems of averages that start late or never move.

    Until its first update an average equals the initial weights, and Lightning validates and stores those
    (Lightning#21724). In half precision an update is rounded away.
    """
    name = type(callback).__name__
    if not callback.should_update(step_idx=0):
        yield (
            f"expected {name} to average from the first step on, got one that begins later: until then Lightning "
            "validates and stores the weights that training began with; leave `update_starting_at_step` out, and "
            "lower `decay` so that early steps are forgotten"
        )
    if trained != "float32":
        yield (
            f"expected trained weights in float32 beside {name}, got {trained}, in which an average stays where it "
            "is: the share that a step adds is rounded away; type --policy.dtype float32 --trainer.precision "
            "bf16-mixed, or train adapters under --trainer.precision 32-true"
        )


def _wrong_way(name: str, monitor: str, mode: str) -> Iterator[str]:
    """Problem of a `mode` that contradicts the metric. Lightning's default is "min", also for accuracies."""
    last = monitor.rpartition("/")[2]
    scored = monitor.startswith("benchmark/") and _SCORES.match(monitor) and not _NO_SCORES.search(monitor)
    better = {"max": last in _BETTER_ABOVE or bool(scored), "min": last in _BETTER_BELOW}
    if any(better.values()) and not better[mode]:
        right = "max" if mode == "min" else "min"
        yield (
            f"expected `mode: {right}` of {name} for `monitor: {monitor}`, which is better the "
            f"{'larger' if right == 'max' else 'smaller'} it is, got {mode}; set mode: {right} in its init_args"
        )


def _too_early(callback: ModelCheckpoint, monitor: str) -> Iterator[str]:
    """Problem of saving between validations by a validation metric.

    Lightning 2.6 would name and rank such weights by the value of an earlier validation.
    """
    intervals: dict[str, Any] = {
        "every_n_train_steps": callback._every_n_train_steps,
        "train_time_interval": callback._train_time_interval,
    }
    stated = next((name for name, interval in intervals.items() if interval), None)
    if stated and monitor not in COUNTS and not monitor.startswith(OF_TRAINING):
        yield (
            f"expected no `{stated}` of the ModelCheckpoint with `monitor: {monitor}`, got {intervals[stated]}: it "
            "would write weights before they are validated, under the value of others; leave it out, and weights are "
            "written after each validation (`trainer.val_check_interval`); another ModelCheckpoint can write more often"
        )
