"""Settings that this machine cannot follow, or that a shell has changed: said before any class is made."""

import re
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace

from lit_longpo.errors import InputError
from lit_longpo.policy.prompts.prompt_template import check_template
from lit_longpo.strategies import check_devices

SECTIONS = ("policy", "optimization", "reference")  # at the top level, handed to the objective
_TEXTS = ("user", "system")
_LENGTHS = {"max_epochs": "1", "max_steps": "100", "limit_train_batches": "1.0"}  # with what to type in place of 0
_HOME = re.compile(r"~/|~[A-Za-z_][\w.-]*/\S*$")  # not "~50/100" in a text
_VARIABLE = re.compile(r"^\$([A-Za-z_]\w*|\{\w+\})/\S*$")  # not "$5/hour" in a text


def expand_homes(section: Any) -> Any:
    """Paths with the home folder in place of `~`: shells replace it where a word begins, not in YAML or behind `=`.

    Args:
        section: of a configuration; changed in place, as are its parts.

    Raises:
        InputError: a path begins with a variable, of which a folder would be named.
        RuntimeError: a path begins with the name of nobody here (`errors.message_for_user`).
    """
    if isinstance(section, str) and _VARIABLE.match(section):
        raise InputError(
            f"expected paths without variables, which nobody replaces here, got {section!r}; type the path"
        )
    if isinstance(section, str) and _HOME.match(section):
        return str(Path(section).expanduser())
    if isinstance(section, Namespace | dict):
        for name in list(vars(section) if isinstance(section, Namespace) else section):
            section[name] = expand_homes(section[name])
    return [expand_homes(each) for each in section] if isinstance(section, list) else section


def check_typed(config: Any) -> None:
    """Compare what was typed with this machine, and with what a shell makes of it.

    Raises:
        InputError: there are no such devices as are wanted, a template has the two characters that should have been a
            line break, or a section stands where the top-level one would take its place.
    """
    _check_places(config)
    accelerator = config.get("trainer.accelerator")
    precise = "" if config.get("policy.dtype") == "float32" else " --policy.dtype float32"  # faster on a CPU
    instead = f"{precise}, or --trainer trainer/laptop"
    check_devices(accelerator, config.get("trainer.devices"), "trainer.", instead)
    if config.get("policy.attention") == "flash" and (accelerator == "cpu" or not torch.accelerator.is_available()):
        raise InputError(
            "expected a GPU for `policy.attention: flash`, got a CPU; type --policy.attention auto, which takes flash "
            "where it runs"
        )
    for name in _TEXTS:
        text = config.get(f"policy.template.{name}")
        check_template(text if isinstance(text, str) else "", f"policy.template.{name}")


def _check_places(config: Any) -> None:
    """Refuse sections that the objective gets from the top level: what it is given itself would have no effect."""
    for name in SECTIONS:
        if config.get(f"model.init_args.{name}") is not None:
            raise InputError(
                f"expected `{name}` at the top level of the configuration, got `model.init_args.{name}`, whose place "
                f"it takes; type --{name} in place of --model.{name}"
            )


def check_length(config: Any) -> None:
    """Refuse a `fit` that would end before its first step, with nothing written, or before its own least length."""
    if config.get("trainer.fast_dev_run"):  # which has its own
        return
    for name, instead in _LENGTHS.items():
        length = config.get(f"trainer.{name}")
        if length is not None and length == 0:
            raise InputError(
                f"expected a training of at least one step, got `trainer.{name}: {length}`; type --trainer.{name} "
                f"{instead}, or validate in place of fit to only score the validation data"
            )
    for unit in ("epochs", "steps"):
        least, most = config.get(f"trainer.min_{unit}"), config.get(f"trainer.max_{unit}")
        if least is not None and most is not None and 0 <= most < least:
            raise InputError(
                f"expected `trainer.min_{unit}` of at most `trainer.max_{unit}: {most}`, at which a training ends, got "
                f"{least}; type --trainer.max_{unit} {least}, or a lower --trainer.min_{unit}"
            )
