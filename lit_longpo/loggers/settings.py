"""What a run was started with, told to its loggers."""

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback

from lit_longpo.loggers.pages import pages_of
from lit_longpo.run_folder import folder_of_run
from lit_longpo.servers import without_passwords

log = logging.getLogger(__name__)

_SECTIONS = ("name", "seed_everything", "initial_weights", "policy", "model", "data", "optimization", "reference")
_OF_TRAINER = (
    *("max_steps", "max_epochs", "accumulate_grad_batches", "gradient_clip_val", "precision", "devices", "num_nodes"),
    *("strategy", "limit_train_batches"),
)
_ADDRESS = re.compile("[a-z][a-z0-9+.-]*://", re.IGNORECASE)  # of servers, data bases and stores
# Keys of services (CometLogger's); without one they look into the environment.
_SECRETS = {"api_key", "api_token", "access_token", "auth_token", "hf_token", "password", "secret"}
_UNNAMED = {"class_path", "init_args"}  # levels of the YAML that nobody types


class SettingsCallback(SaveConfigCallback):
    """Lightning's, which keeps config.yaml in the run's folder; and the loggers get settings and configuration."""

    _folder = Path()

    def __init__(self, parser: LightningArgumentParser, config: Namespace, *more: Any, **options: Any) -> None:
        kept = _without_passwords(config)
        self._left_out = [name for name, value in config.items() if kept.get(name) != value]
        super().__init__(parser, kept, *more, **options)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the run's folder while all processes are here: asking for it is a broadcast."""
        self._folder = folder_of_run(trainer)
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Tell the loggers; on the first process, after the file is written."""
        if stage != "fit":
            return
        if self._left_out:
            log.info(
                "%s holds no passwords and keys (%s): type them again to start from it",
                *(self.config_filename, ", ".join(self._left_out)),
            )
        for pages in pages_of(trainer.loggers, self._folder):
            pages.settings(hyper_parameters(self.config.as_dict()), self._folder / self.config_filename)


def _without_passwords(value: Any) -> Any:
    """Settings as they are written down: an address without the user in front of it, no key of a service."""
    if isinstance(value, Namespace):
        return Namespace(**_without_passwords(vars(value)))
    if isinstance(value, dict):
        return {name: None if name in _SECRETS else _without_passwords(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_without_passwords(part) for part in value]
    return without_passwords(value) if isinstance(value, str) and _ADDRESS.match(value) else value


def hyper_parameters(config: Mapping[str, Any]) -> dict[str, str | float]:
    """What decides what is trained, by the names that are typed: `model.base.beta`.

    Numbers and words stay what they are; lists become text. What is not set is left out.
    """
    trainer = {name: config.get("trainer", {}).get(name) for name in _OF_TRAINER}
    chosen = {name: config.get(name) for name in _SECTIONS} | {"trainer": trainer}
    return dict(_flat("", chosen))


def _flat(name: str, value: Any) -> Iterator[tuple[str, str | float]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            if key != "__path__":  # of the fragment that a section came from
                yield from _flat(name if key in _UNNAMED else f"{name}.{key}".removeprefix("."), part)
    elif isinstance(value, bool | int | float):
        yield name, value
    elif value is not None:
        yield name, str(value)
