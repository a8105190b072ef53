"""Settings that would stop a run late, and with a library's words: said before a model is loaded."""

from typing import Any

import torch
from lightning.pytorch import Trainer
from transformers import PretrainedConfig

from lit_longpo.engine.sharing import sharing_message
from lit_longpo.errors import InputError
from lit_longpo.policy.rope import check_window

_GPUS = ("gpu", "cuda")
_SECTIONS = ("policy", "optimization", "reference")  # at the top level, handed to the objective
_TEXTS = ("user", "system")
_LENGTHS = {"max_epochs": "1", "max_steps": "100", "limit_train_batches": "1.0"}  # with what to type in place of 0


def check_typed(config: Any) -> None:
    """Compare what was typed with this machine, and with what a shell makes of it.

    Args:
        config: of `fit`, `validate` or `test`, as the command line has parsed it.

    Raises:
        ValueError: there is no GPU where one is wanted, a template has the two characters that should have been a
            line break, or a section stands where the top-level one would take its place.
    """
    _check_places(config)
    accelerator = config.get("trainer.accelerator")
    if accelerator in _GPUS and not torch.accelerator.is_available():
        precise = "" if config.get("policy.dtype") == "float32" else " --policy.dtype float32"  # faster on a CPU
        raise InputError(
            f"expected a GPU for `trainer.accelerator: {accelerator}`, found none that torch can use; type "
            f"--trainer.accelerator cpu{precise}, or --trainer trainer/laptop"
        )
    if config.get("policy.attention") == "flash" and (accelerator == "cpu" or not torch.accelerator.is_available()):
        raise InputError(
            "expected a GPU for `policy.attention: flash`, got a CPU; type --policy.attention auto, which takes flash "
            "where it runs"
        )
    for name in _TEXTS:
        text = config.get(f"policy.template.{name}")
        if isinstance(text, str) and "\\n" in text:
            raise InputError(
                f"expected line breaks in `policy.template.{name}`, got a backslash and an n, which a shell and plain "
                f"YAML keep: {text}; in bash type $'...\\n...', in YAML write \"...\\n...\" in double quotes"
            )


def _check_places(config: Any) -> None:
    """Refuse sections that the objective gets from the top level: what it is given itself would have no effect."""
    for name in _SECTIONS:
        if config.get(f"model.init_args.{name}") is not None:
            raise InputError(
                f"expected `{name}` at the top level of the configuration, got `model.init_args.{name}`, whose place "
                f"it takes; type --{name} in place of --model.{name}"
            )


def check_length(config: Any) -> None:
    """Refuse a training that would end before its first step, with nothing written.

    Args:
        config: of `fit`, as the command line has parsed it.

    Raises:
        ValueError: naming the setting.
    """
    if config.get("trainer.fast_dev_run"):  # which has its own
        return
    for name, instead in _LENGTHS.items():
        length = config.get(f"trainer.{name}")
        if length is not None and length == 0:
            raise InputError(
                f"expected a training of at least one step, got `trainer.{name}: {length}`; type --trainer.{name} "
                f"{instead}, or validate in place of fit to only score the validation data"
            )


def check_training_rows(trainer: Trainer) -> None:
    """Refuse rows that cannot be filled, and a validation that would never be due.

    Args:
        trainer: about to fit; its data are set up.

    Raises:
        ValueError: an example does not fit into a row, none is left, or an epoch has fewer rows than
            `trainer.val_check_interval`.
    """
    data = getattr(trainer, "datamodule", None)
    if data is None:
        return
    rows, limit, interval = len(data.train_dataloader()), trainer.limit_train_batches, trainer.val_check_interval
    rows = min(rows, limit) if isinstance(limit, int) else int(rows * limit)
    over_epochs = trainer.check_val_every_n_epoch is None or not trainer.limit_val_batches
    if isinstance(interval, int) and interval > rows and not over_epochs:
        raise InputError(
            f"expected a `trainer.val_check_interval` of at most the {rows} rows of an epoch, got {interval}; type "
            "--trainer.val_check_interval 1.0 to validate once an epoch, or --trainer.check_val_every_n_epoch null to "
            "count rows over epochs"
        )


def reach_of(trainer: Trainer) -> int:
    """Positions of the longest sequence in a trainer's data.

    Args:
        trainer: about to fit; its data are set up.
    """
    return getattr(getattr(trainer, "datamodule", None), "reach", 0)


def check_sharing(trainer: Trainer, config: PretrainedConfig, cause: str | None) -> None:
    """Refuse rows that keep their budget only if prompts share their beginnings, for a model that cannot.

    Args:
        trainer: about to fit; its data are set up.
        config: of the policy.
        cause: why it cannot; `None` if it can.

    Raises:
        InputError: saying what to type.
    """
    if cause is not None and getattr(getattr(trainer, "datamodule", None), "fills_by_sharing", False):
        raise InputError(sharing_message(type(config).__name__.removesuffix("Config"), cause))


def check_reach(trainer: Trainer, config: PretrainedConfig) -> None:
    """Refuse data beyond the model's window, but for synthesised positions, whose target the user has stated.

    Args:
        trainer: about to fit; its data are set up.
        config: of the policy, with its rotary settings as they are used.

    Raises:
        InputError: saying what to type.
    """
    check_window(getattr(getattr(trainer, "datamodule", None), "true_reach", 0), config)
