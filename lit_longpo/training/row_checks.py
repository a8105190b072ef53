"""Checks of the training rows against trainer and model: are there any, and do they fit the model's window?"""

import logging
from typing import Any, TypeVar

from lightning.fabric.utilities.data import sized_len
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import nn
from transformers import PretrainedConfig

from lit_longpo.checkpoints.record import data_fingerprint
from lit_longpo.checkpoints.resumption import starts_anew
from lit_longpo.engine import sequence_ranks
from lit_longpo.engine.sharing import sharing_message, sharing_rule
from lit_longpo.errors import InputError
from lit_longpo.optimization.steps import rows_of_an_epoch
from lit_longpo.policy.loading import PolicyConfig
from lit_longpo.policy.window import check_window, window_problem
from lit_longpo.strategies import any_rank, is_sharded

log = logging.getLogger(__name__)
Value = TypeVar("Value")


def check_rows(trainer: Trainer, policy: PolicyConfig) -> None:
    """Refuse data and trainer settings that this policy cannot be trained with.

    Raises:
        InputError: there are no rows, they reach beyond the model's window, or they only keep their budget by sharing
            prompts, which this model cannot; or several processes are to validate after a time.
    """
    _check_clock(trainer)
    _check_training_rows(trainer)
    if starts_anew(trainer) and policy.gguf_file is None:  # its configuration takes long to read
        config = policy.config()
        check_reach(trainer, config)
        check_rows_can_share(trainer, config, sharing_rule(config))


def _check_clock(trainer: Trainer) -> None:
    """Refuse validation by time on several processes: their clocks disagree, and they would wait for each other."""
    seconds = getattr(trainer, "_val_check_time_interval", None)
    if seconds is not None and trainer.world_size > 1:
        raise InputError(
            f"expected a `trainer.val_check_interval` in rows or as a share of an epoch with {trainer.world_size} "
            f"processes, got {seconds:g} seconds, which each would measure by itself; type "
            "--trainer.val_check_interval 0.5"
        )


def _check_training_rows(trainer: Trainer) -> None:
    """Refuse rows that cannot be filled, and a validation that would never be due.

    Raises:
        InputError: an example does not fit into a row, none is left or asked for, or an epoch has fewer rows than
            `trainer.val_check_interval`; or its number of rows is not known, or differs between processes.
    """
    data = getattr(trainer, "datamodule", None)
    if data is None:
        return
    interval = getattr(trainer, "val_check_interval", None)  # Lightning 2.6 has none where it is a time
    loaded = sized_len(data.train_dataloader())
    if loaded is None:
        raise InputError(
            f"expected a loader of training rows that knows how many it has, got that of {type(data).__name__}, which "
            "has no length; give its data set a `__len__`"
        )
    rows = rows_of_an_epoch(trainer, loaded)
    _check_alike(trainer, rows)
    if rows == 0:
        raise InputError(
            f"expected an epoch of at least one row, got `trainer.limit_train_batches: {trainer.limit_train_batches}` "
            f"of {loaded}; type --trainer.limit_train_batches 1"
        )
    if (validated := _rows_validated(trainer, data)) is not None and validated < 1:
        raise InputError(
            "expected a validation of at least one row, got `trainer.limit_val_batches: "
            f"{trainer.limit_val_batches}`; type --trainer.limit_val_batches 1, or 0 for none"
        )
    over_epochs = trainer.check_val_every_n_epoch is None or not trainer.limit_val_batches
    if isinstance(interval, int) and interval > rows and not over_epochs:
        raise InputError(
            f"expected a `trainer.val_check_interval` of at most the {rows} rows of an epoch, got {interval}; type "
            "--trainer.val_check_interval 1.0 to validate once an epoch, or --trainer.check_val_every_n_epoch null to "
            "count rows over epochs"
        )


def _check_alike(trainer: Trainer, rows: int) -> None:
    """Refuse processes that have read other data than the first, or the same in another order.

    Each takes its share of what all of them take for one list: examples would be left out and repeated without a word,
    and a process with more rows than another would wait for it for ever.
    """
    if (first := _other_than_first(trainer, (rows, data_fingerprint(trainer)))) is not None:
        raise InputError(
            f"expected the same training data in the same order, and {first[0]} rows an epoch, on each of the "
            f"{trainer.world_size} processes, got others on some: copy the same files to every machine, and sort what "
            "`pairs` of a data module of your own takes from a set or a folder"
        )


def check_evaluated_rows(trainer: Trainer, model: nn.Module, rows: list[int | float]) -> None:
    """Refuse validation or test rows of which one process has more than another, where a forward needs them all.

    It would wait for the others for ever. Whole models on each process wait for nobody.

    Raises:
        InputError: on all of them.
    """
    if not (is_sharded(model) or sequence_ranks().size > 1):
        return
    if (first := _other_than_first(trainer, rows)) is not None:
        raise InputError(
            f"expected as many validation or test rows on each of the {trainer.world_size} processes, which share the "
            f"model or its rows, got {sum(first)} on the first and another number on some: copy the same files to "
            "every machine, or set `trainer.limit_val_batches` (`limit_test_batches`) to a number that each of them has"
        )


def _other_than_first(trainer: Trainer, here: Value) -> Value | None:
    """What the first process has, on all of them, where any has another value; `None` where all have the same."""
    first: Value = trainer.strategy.broadcast(here)
    return first if any_rank(here != first, trainer.strategy.root_device) else None


def _rows_validated(trainer: Trainer, data: LightningDataModule) -> float | None:
    """Validation rows left by a fractional `trainer.limit_val_batches`; `None` if it is no fraction, or not known."""
    share = trainer.limit_val_batches
    if not isinstance(share, float) or not 0.0 < share < 1.0 or not is_overridden("val_dataloader", data):
        return None
    loaded = sized_len(data.val_dataloader())
    return share * loaded if loaded else None


def data_attribute(trainer: Trainer, name: str, otherwise: Any) -> Any:
    """An attribute of the trainer's data module; `otherwise` without one, or if somebody's own lacks it."""
    return getattr(getattr(trainer, "datamodule", None), name, otherwise)


def check_rows_can_share(trainer: Trainer, config: PretrainedConfig, cause: str | None) -> None:
    """Refuse rows that keep their budget only if prompts share their beginnings, for a model that cannot."""
    if cause is not None and data_attribute(trainer, "fills_by_sharing", False):
        raise InputError(sharing_message(type(config).__name__.removesuffix("Config"), cause))


def check_reach(trainer: Trainer, config: PretrainedConfig) -> None:
    """Refuse sequences longer than the model's window.

    Synthesised positions may exceed it: the user has stated how far they reach.
    """
    check_window(data_attribute(trainer, "true_reach", 0), config)


def warn_of_window(trainer: Trainer, config: PretrainedConfig) -> None:
    """Warn once if sequences reach beyond the positions the model was trained on, where `check_reach` allows it."""
    reach = data_attribute(trainer, "reach", 0)
    problem = window_problem(reach, config, synthesised=reach > data_attribute(trainer, "true_reach", 0))
    if problem is not None and trainer.is_global_zero:
        log.warning(problem)
