"""Checks early whether the metrics that callbacks monitor will ever be logged."""

import difflib
import math
import re
from collections.abc import Iterable, Iterator

from lightning.fabric.utilities.data import sized_len
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.utilities.model_helpers import is_overridden

from lit_longpo.checkpoints.loops.last_steps import COUNTS
from lit_longpo.errors import InputError
from lit_longpo.optimization.steps import rows_of_an_epoch
from lit_longpo.strategies import rows_of_a_step

OF_TRAINING = ("train/", "perf/")
_SIMILAR = 0.8
_LATE = 1_000_000  # an epoch, for schedules of accumulation


def watched(callbacks: Iterable[Callback]) -> Iterator[tuple[str, str]]:
    """(callback's class name, monitored metric) of every ModelCheckpoint and EarlyStopping with a `monitor`."""
    for callback in callbacks:
        if isinstance(callback, ModelCheckpoint | EarlyStopping) and callback.monitor:
            yield type(callback).__name__, callback.monitor


def check_validated(trainer: Trainer) -> None:
    """Refuse to monitor a validation metric in a run that never validates.

    Lightning would save nothing, and EarlyStopping would end the run with an error after its first epoch.
    """
    of_validation = (
        (name, monitor)
        for name, monitor in watched(getattr(trainer, "callbacks", ()))
        if monitor not in COUNTS and not monitor.startswith(OF_TRAINING)
    )
    name, monitor = next(of_validation, ("", ""))
    if monitor and (cause := _no_validation(trainer)):
        raise InputError(
            f"expected a validation in this run, which {name} with `monitor: {monitor}` waits for, got none: {cause}; "
            "or leave `monitor` out"
        )


def _no_validation(trainer: Trainer) -> str | None:
    """Why a run never validates, and what to type; `None` if it does, or if nobody knows."""
    if not trainer.limit_val_batches:
        return "`trainer.limit_val_batches` is 0; type --trainer.limit_val_batches 1.0"
    data = getattr(trainer, "datamodule", None)
    if data is None:
        return None
    if not is_overridden("val_dataloader", data) or sized_len(data.val_dataloader()) == 0:
        return (
            "there are no validation pairs, or none as short as `data.init_args.max_length`; set "
            "`data.init_args.val_fraction`, name a file of them, or raise `max_length`"
        )
    of_epoch = sized_len(data.train_dataloader())
    if of_epoch is None:  # loaders of one's own may have no length
        return None
    rows, of_run = _rows_until_validation(trainer, of_epoch)
    if rows <= of_run:
        return None
    return (
        f"the first comes after {rows} rows (`trainer.val_check_interval`, `check_val_every_n_epoch`), and the "
        f"training ends after {of_run}; type --trainer.val_check_interval 0.5 --trainer.check_val_every_n_epoch 1, or "
        "train longer"
    )


def _rows_until_validation(trainer: Trainer, rows: int) -> tuple[int, float]:
    """The number of rows before the first validation, and in the whole run."""
    interval, rows = getattr(trainer, "val_check_interval", None), rows_of_an_epoch(trainer, rows)
    if interval is None:  # after a time
        return 0, math.inf
    first = interval if isinstance(interval, int) else max(1, int(rows * interval))
    first += rows * ((trainer.check_val_every_n_epoch or 1) - 1)
    by_epochs = math.inf if trainer.max_epochs in (None, -1) else rows * (trainer.max_epochs or 0)
    a_step = max(rows_of_a_step(trainer, epoch) for epoch in (0, _LATE))
    return first, min(by_epochs, math.inf if trainer.max_steps == -1 else trainer.max_steps * a_step)


def check_known(trainer: Trainer) -> None:
    """Refuse a misspelt metric right after the first step, where Lightning would wait for a validation or the end.

    A name that resembles no metric of the run is taken for a metric that somebody else's callback logs.
    """
    trained = [name.removeprefix("train/") for name in trainer.callback_metrics if name.startswith("train/")]
    known = {f"{stage}/{name}" for stage in ("train", "val") for name in trained}
    for callback, monitor in watched(trainer.callbacks):  # type: ignore[attr-defined]
        of_a_source = monitor.startswith("val/") and monitor.endswith(tuple(f"/{name}" for name in trained))
        if of_a_source or monitor in known or monitor in trainer.callback_metrics:
            continue
        if meant := _meant(monitor, known):
            raise InputError(
                f"expected `monitor` of {callback} to name a metric of this run, got {monitor}, which is none; set "
                f"monitor: {meant} in its init_args"
            )


def _meant(monitor: str, known: Iterable[str]) -> str | None:
    """The known metric that a name resembles, for example `val/loss` for transformers' `eval_loss`.

    Only metrics with as many words are compared, because one more word makes it another metric.
    """
    stage, _, rest = monitor.replace("_", "/", 1).partition("/")
    stages = {"train": "train", "val": "val", "eval": "val", "valid": "val", "validation": "val"}
    asked = f"{stages[stage]}/{rest}" if stage in stages else f"val/{monitor}"
    of_as_many_words = [name for name in known if len(_words(name)) == len(_words(asked))]
    return next(iter(difflib.get_close_matches(asked, of_as_many_words, n=1, cutoff=_SIMILAR)), None)


def _words(name: str) -> list[str]:
    return re.findall("[a-zA-Z0-9]+", name)
