"""The record of its run that a checkpoint carries, for model cards and for resuming."""

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from lightning.pytorch import Trainer

from lit_longpo.files.stored import plain_json
from lit_longpo.optimization import num_optimizer_steps
from lit_longpo.optimization.schedules import steps_of

Settings = dict[str, Any]

# Where weights are read from, and what says which ones these are, whatever the place is called.
_FILES = {
    "policy.source": "policy.files",
    "reference.policy.source": "reference.policy.files",
    "initial_weights": "initial_weights.files",
}
_OF_TRAINER = (
    *("precision", "gradient_clip_val", "gradient_clip_algorithm", "accumulate_grad_batches"),
    *("limit_train_batches", "overfit_batches"),
)
# The last two but one are of mixtures.
_OF_DATA = ("max_tokens", "max_examples", "share_prompts", "rows_by", "seed", "weights", "smaller", "num_workers")
# A whole number counts rows, another is a share of them: 1 is one row, 1.0 all.
_ROWS_OR_SHARE = ("trainer.limit_train_batches", "trainer.overfit_batches")
_MEANT_BY_NONE: Settings = {"trainer.gradient_clip_algorithm": "norm"}
# Another number of workers cannot take the loader's place over; the loader would only say so by a failed assertion.
_SLIGHT = {
    *("seed_everything", "initial_weights"),
    *(f"trainer.{name}" for name in _OF_TRAINER),
    *(f"data.{name}" for name in _OF_DATA[:-1]),
}
OF_SWEEPS = {"seed_everything", "data.seed", "initial_weights"}  # with other ones it is another run of a sweep


def run_record(trainer: Trainer, objective: str) -> dict[str, Any]:
    """Plain values: objective, steps, epoch, last metrics, settings, schedule's length, hash of the training data."""
    return {
        "objective": objective,
        "step": trainer.global_step,
        "epoch": trainer.current_epoch,
        "processes": trainer.world_size,
        "metrics": {**_before(trainer), **{name: float(value) for name, value in trainer.callback_metrics.items()}},
        "settings": run_settings(trainer, trainer.lightning_module),
        "schedule_steps": schedule_steps(trainer),
        "data_fingerprint": data_fingerprint(trainer),
    }


def _before(trainer: Trainer) -> dict[str, float]:
    """Metrics of the checkpoint that a run resumed from, until it trains on a row (it may be over already)."""
    begun = getattr(trainer, "_has_begun", None)
    return {} if begun is None or begun() else dict(getattr(trainer.lightning_module, "metrics_before", {}))


def run_settings(trainer: Trainer, module: Any, data: Any = None) -> Settings:
    """Every setting that decides what is trained, by its command-line name.

    Args:
        trainer: of the run.
        module: what is trained; nothing to say about it if it is no objective of ours.
        data: the data module; `None` means the trainer's, if it has one by now.
    """
    settings = dict(getattr(module, "settings", {}))
    settings |= {f"trainer.{name}": getattr(trainer, name, None) for name in _OF_TRAINER}
    if seed := os.environ.get("PL_GLOBAL_SEED"):  # where Lightning's `seed_everything` keeps it
        settings["seed_everything"] = seed
    data = data or getattr(trainer, "datamodule", None)
    settings |= {f"data.{name}": getattr(data, name) for name in _OF_DATA if hasattr(data, name)}
    return plain_json(settings)


def schedule_steps(trainer: Trainer) -> int | None:
    """Number of steps the learning-rate schedule is built for; `None` if the rate does not depend on it."""
    optimization = getattr(trainer.lightning_module, "optimization", None)
    if optimization is None or not optimization.depends_on_length:
        return None
    in_use = next((steps_of(config.scheduler) for config in getattr(trainer, "lr_scheduler_configs", ())), None)
    return num_optimizer_steps(trainer) if in_use is None else in_use


def data_fingerprint(trainer: Trainer) -> str | None:
    """Hash of the tokenised training data; `None` before there is any, or if the data module keeps none."""
    fingerprint = getattr(getattr(trainer, "datamodule", None), "fingerprint", None)
    return fingerprint() if fingerprint else None


def flatten(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A setting, or the class and the settings of a dataclass, by dotted name; of other objects the class."""
    if value is None or isinstance(value, str | int | float | list | tuple | dict):
        yield name, value
        return
    yield name, type(value).__name__
    if dataclasses.is_dataclass(value):
        for part in dataclasses.fields(value):
            yield from flatten(f"{name}.{part.name}", getattr(value, part.name))


def contradictions(record: Mapping[str, Any], settings: Settings) -> dict[str, tuple[Any, Any]]:
    """Settings that differ from those of the checkpoint's run: its value and today's, by name.

    Settings that only one of the two has are left out, and so are settings inside of one that differs.
    """
    then, now = record.get("settings") or {}, plain_json(settings)
    for source, files in _FILES.items():
        if not (then.get(files) and now.get(files)):
            continue
        if then[files] == now[files]:
            now[source] = then[source]
        elif then[source] == now[source]:
            now[source] += " with other files"
    differing = {
        name: (then[name], now[name])
        for name in now
        if name not in _FILES.values() and name in then and not _same(name, then[name], now[name])
    }
    return {name: pair for name, pair in differing.items() if not any(name.startswith(f"{n}.") for n in differing)}


def is_slight(name: str) -> bool:
    """Whether a changed setting only deserves a warning."""
    return name in _SLIGHT


def _same(name: str, then: Any, now: Any) -> bool:
    then, now = (_MEANT_BY_NONE.get(name) if value is None else value for value in (then, now))
    if name in _ROWS_OR_SHARE and isinstance(then, float) != isinstance(now, float):
        return bool(then == now == 0)
    return bool(then == now) or json.dumps(then) == json.dumps(now)  # not a number is not itself
