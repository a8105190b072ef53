"""Rows that nobody could train a policy on, or that reach beyond what it was made for."""

import logging
from typing import Any

from lightning.fabric.utilities.data import sized_len
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden
from transformers import PretrainedConfig

from lit_longpo.checkpoints.resumption import starts_anew
from lit_longpo.engine.sharing import sharing_message, sharing_rule
from lit_longpo.errors import InputError
from lit_longpo.optimization.steps import rows_of_an_epoch
from lit_longpo.policy.loading import PolicyConfig
from lit_longpo.policy.rope import check_window, window_problem

log = logging.getLogger(__name__)


def check_rows(trainer: Trainer, policy: PolicyConfig) -> None:
    """Refuse rows that nobody could train this policy on.

    Args:
        trainer: whose data they are.
        policy: that is not loaded yet.

    Raises:
        ValueError: there are none, they reach beyond the model's window, or are filled by what it does not bear.
    """
    _check_clock(trainer)
    _check_training_rows(trainer)
    if starts_anew(trainer) and policy.gguf_file is None:  # its configuration takes long to read
        config = policy.config()
        check_reach(trainer, config)
        check_sharing(trainer, config, sharing_rule(config))


def _check_clock(trainer: Trainer) -> None:
    """Processes whose clocks disagree about a validation would wait for each other for ever.

    Raises:
        InputError: several validate after a time.
    """
    seconds = getattr(trainer, "_val_check_time_interval", None)
    if seconds is not None and trainer.world_size > 1:
        raise InputError(
            f"expected a `trainer.val_check_interval` in rows or as a share of an epoch with {trainer.world_size} "
            f"processes, got {seconds:g} seconds, which each would measure by itself; type "
            "--trainer.val_check_interval 0.5"
        )


def _check_training_rows(trainer: Trainer) -> None:
    """Refuse rows that cannot be filled, and a validation that would never be due.

    Args:
        trainer: about to fit; its data are set up.

    Raises:
        ValueError: an example does not fit into a row, none is left or asked for, or an epoch has fewer rows than
            `trainer.val_check_interval`.
    """
    data = getattr(trainer, "datamodule", None)
    if data is None:
        return
    interval = getattr(trainer, "val_check_interval", None)  # Lightning 2.6 has none where it is a time
    loaded = len(data.train_dataloader())
    rows = rows_of_an_epoch(trainer, loaded)
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


def _rows_validated(trainer: Trainer, data: LightningDataModule) -> float | None:
    """Rows of a validation that is to have a share of them; `None` if it has all, or nobody knows."""
    share = trainer.limit_val_batches
    if not isinstance(share, float) or not 0.0 < share < 1.0 or not is_overridden("val_dataloader", data):
        return None
    loaded = sized_len(data.val_dataloader())
    return share * loaded if loaded else None


def of_data(trainer: Trainer, name: str, otherwise: Any) -> Any:
    """What a trainer's data module says of itself.

    Args:
        trainer: its data are set up.
        name: of an attribute that `PairDataModule` has.
        otherwise: without a data module, and of one that does not have it.
    """
    return getattr(getattr(trainer, "datamodule", None), name, otherwise)


def check_sharing(trainer: Trainer, config: PretrainedConfig, cause: str | None) -> None:
    """Refuse rows that keep their budget only if prompts share their beginnings, for a model that cannot.

    Args:
        trainer: about to fit; its data are set up.
        config: of the policy.
        cause: why it cannot; `None` if it can.

    Raises:
        InputError: saying what to type.
    """
    if cause is not None and of_data(trainer, "fills_by_sharing", False):
        raise InputError(sharing_message(type(config).__name__.removesuffix("Config"), cause))


def check_reach(trainer: Trainer, config: PretrainedConfig) -> None:
    """Refuse data beyond the model's window, but for synthesised positions, whose target the user has stated.

    Args:
        trainer: about to fit; its data are set up.
        config: of the policy, with its rotary settings as they are used.

    Raises:
        InputError: saying what to type.
    """
    check_window(of_data(trainer, "true_reach", 0), config)


def warn_of_window(trainer: Trainer, config: PretrainedConfig) -> None:
    """Say once if sequences reach beyond what the model was made for, where that is no error.

    Args:
        trainer: whose data they are.
        config: of the policy.
    """
    problem = window_problem(of_data(trainer, "reach", 0), config)
    if problem is not None and trainer.is_global_zero:
        log.warning(problem)
