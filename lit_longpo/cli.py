"""The command line: LightningCLI with our links, defaults and error messages."""

import copy
import logging
from collections import Counter
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningDataModule
from lightning.pytorch.callbacks import Checkpoint, ModelSummary, ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.model_helpers import is_overridden

from lit_longpo.callbacks import HostMemory, RecordAccount, RunSummary, TrainingProgressBar
from lit_longpo.checkpoints import ResumableTrainer
from lit_longpo.checkpoints.whole import refuse_broken
from lit_longpo.command_line.parser import SuggestingParser
from lit_longpo.command_line.precedence import name_of, options_of
from lit_longpo.command_line.settings_checks import SECTIONS, check_length, check_typed, expand_homes
from lit_longpo.engine.layer_kernels import check_layer_kernels
from lit_longpo.errors import InputError, MissingPackageError, message_for_user, missing_package
from lit_longpo.loggers import SettingsCallback, name_loggers, named_logger
from lit_longpo.objectives import PreferenceModule
from lit_longpo.optimization import Optimization
from lit_longpo.policy import PolicyConfig, ReferenceConfig
from lit_longpo.policy.stale_settings import stale_settings
from lit_longpo.policy.trainable import check_training
from lit_longpo.strategies import check_job, check_launch, check_strategy, split_by
from lit_longpo.training.callback_checks import check_callbacks

log = logging.getLogger(__name__)

_DEFAULTS: dict[str, Any] = {
    # Samplers are ours: Lightning's automatic one always shuffles and does not know token budgets.
    "use_distributed_sampler": False,
    "num_sanity_val_steps": 0,
    "default_root_dir": "runs",
    "log_every_n_steps": 10,
}
_INTERVAL = "trainer.log_every_n_steps"
# Lightning refuses a trainer that has such a callback and is told to have none; recipes name some.
_SWITCHES: dict[str, type[Callback]] = {
    "enable_progress_bar": ProgressBar,
    "enable_checkpointing": Checkpoint,
    "enable_model_summary": ModelSummary,
}


class FitParser(SuggestingParser, LightningArgumentParser):
    """The parser of LightningCLI's commands."""


class LongPOCLI(LightningCLI):
    """`fit`, `validate` and `test` from YAML.

    Top-level keys: `policy` (which model), `model` (which objective), `data`, `optimization`,
    `reference`, `trainer`. The policy is handed to the objective, its tokenizer and the views that
    the objective wants to the data module, so that any of them can be swapped alone.
    """

    prog = "python -m lit_longpo"

    def __init__(self, **kwargs: Any) -> None:
        first = next(iter(kwargs.get("args") or ()), None)
        commands = {name: LightningCLI.subcommands()[name] for name in ("fit", "validate", "test")}
        # Each has a parser of its own, of all classes and their arguments: built for the one that is asked for.
        self._asked = {first: commands[first]} if first in commands else commands
        super().__init__(
            model_class=PreferenceModule,
            datamodule_class=LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            trainer_class=ResumableTrainer,
            trainer_defaults={**_DEFAULTS, "callbacks": [HostMemory(), RecordAccount(), RunSummary()]},
            save_config_callback=SettingsCallback,
            seed_everything_default=42,
            auto_configure_optimizers=False,
            # Hyper-parameters in a checkpoint would override the YAML on resume; config.yaml is beside the run.
            load_from_checkpoint_support=False,
            save_config_kwargs={"overwrite": True},
            parser_class=FitParser,
            parser_kwargs={"prog": self.prog},
            **kwargs,
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the arguments; Lightning would take them for a mistake beside those of the process."""
        self._words = [] if args is None or isinstance(args, dict | Namespace) else [str(word) for word in args]
        self.config = parser.parse_object(args) if isinstance(args, dict | Namespace) else parser.parse_args(args)

    def _set_seed(self) -> None:
        try:
            super()._set_seed()
        except ValueError as error:
            raise InputError(
                f"expected `seed_everything` (or PL_GLOBAL_SEED) to be a number that seeds can be: {error}; type "
                "--seed_everything 42"
            ) from error

    def _parse_ckpt_path(self) -> None:
        """Lightning looks for hyper-parameters, which we keep in config.yaml; a broken file would end in its words."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Top-level sections, and how they reach objective and data."""
        parser.add_class_arguments(PolicyConfig, "policy")
        parser.add_class_arguments(Optimization, "optimization")
        parser.add_class_arguments(ReferenceConfig, "reference")
        for section in SECTIONS:
            parser.link_arguments(section, f"model.init_args.{section}", apply_on="instantiate")
        parser.link_arguments(
            "policy",
            "data.init_args.prompt_format",
            compute_fn=PolicyConfig.prompt_format,
            apply_on="instantiate",
        )
        parser.add_argument(
            "--initial_weights",
            type=str | None,
            default=None,
            help="start from this checkpoint's weights, with a fresh optimizer and at step 0",
        )
        parser.add_argument(
            "--name",
            type=str | None,
            default=None,
            help="name of the run. Its folder is NAME/version_N below trainer.default_root_dir; W&B, MLflow and other "
            "loggers show it",
        )
        parser.link_arguments("model", "data.init_args.views", compute_fn=_views, apply_on="instantiate")

    def before_instantiate_classes(self) -> None:
        """Check, before any class is made, what would only fail later and with a long message."""
        config = self.config[self.subcommand] if self.subcommand else self.config
        check_typed(config)
        expand_homes(config["trainer"])
        expand_homes(config.get("data"))
        check_job()
        self._loggers_as_typed = copy.deepcopy(config["trainer"].get("logger"))
        name_loggers(config["trainer"], config.get("name"))
        if self.subcommand == "fit":
            check_length(self.config["fit"])

    def instantiate_classes(self) -> None:
        """Make trainer, objective and data.

        Raises:
            MissingPackageError: a class needs a package that is not installed.
        """
        try:
            super().instantiate_classes()
        except Exception as error:
            if message_for_user(error) is not None or (package := missing_package(error)) is None:
                raise
            raise MissingPackageError(
                f"expected the package `{package}`, which a setting needs, found none; type: pip install {package}"
            ) from error

    def instantiate_trainer(self, **options: Any) -> Any:
        """Make the trainer; callbacks that one of its settings switches off are left out.

        Its progress bar is ours. Its table of modules is shown if it is asked for: a policy is one module, whose size
        is logged, and its FLOPs would be said to be 0.

        Raises:
            InputError: Lightning refuses its settings.
        """
        settings = self._get(self.config_init, "trainer")
        # What config.yaml keeps: a start from it with another root folder or name is to have its loggers there.
        self._get(self.config, "trainer")["logger"] = self._loggers_as_typed
        if settings.get("barebones"):  # without all that our defaults and recipes add
            for name, value in {**dict.fromkeys(_SWITCHES, False), "log_every_n_steps": 0}.items():
                settings[name] = value
        off = tuple(kind for name, kind in _SWITCHES.items() if settings.get(name) is False)
        callbacks = [item for item in _listed(settings.get("callbacks")) if not isinstance(item, off)]
        if settings.get("enable_progress_bar") is not False and not _has(callbacks, ProgressBar):
            callbacks.append(TrainingProgressBar())
        if settings.get("enable_model_summary") is None:
            settings["enable_model_summary"] = _has(callbacks, ModelSummary)
        _check_unlike(callbacks)
        settings["callbacks"] = callbacks
        name = self._get(self.config, "name")
        if name is not None and settings.get("logger") in (None, True):
            settings["logger"] = named_logger(settings.get("default_root_dir"), name)
        try:
            return super().instantiate_trainer(**options)
        except (TypeError, ValueError) as error:
            raise InputError(f"expected settings of `trainer` that Lightning takes, got others: {error}") from error

    def after_instantiate_classes(self) -> None:
        """Check, before anything is loaded, the number of processes and whether the policy can be trained.

        Also warns of settings that cancel others.
        """
        check_strategy(self.trainer.strategy)
        check_launch(self.trainer)
        if self.subcommand == "fit":
            check_callbacks(getattr(self.trainer, "callbacks", []), self.trainer.strategy)
            check_training(self.model.policy, split_by(self.trainer.strategy))
            check_layer_kernels(self.model.policy.layer_kernels)
            self.model.check_names()
        self.model.log_interval_is_typed = any(name_of(each) == _INTERVAL for each in options_of(self._words))
        weights = self._get(self.config, "initial_weights")
        self.model.initial_weights = None if weights is None else Path(weights).expanduser()
        if self.model.initial_weights is not None:
            refuse_broken(self.model.initial_weights, "--initial_weights", at_once=True)
        if self.subcommand == "fit" and self.trainer.is_global_zero:
            from lit_longpo.planning.conflicts import start_warnings  # the plan's command line is made of this one

            stale = stale_settings(self.config["fit"], self._words)
            for message in [*start_warnings(self.config["fit"]), *([stale] if stale else [])]:
                log.warning(message)

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # Lightning asks the instance
        """Lightning's commands that are offered here: the typed one alone, if one of them is typed first."""
        return self._asked


def _listed(callbacks: Any) -> list[Callback]:
    if callbacks is None:
        return []
    return callbacks if isinstance(callbacks, list) else [callbacks]


def _check_unlike(callbacks: list[Callback]) -> None:
    """Checkpoints keep states of callbacks by what their settings say, which two of a kind must not share."""
    kept = Counter(item.state_key for item in callbacks if is_overridden("state_dict", item, parent=Callback))
    twice = {type(item).__name__ for item in callbacks if kept[item.state_key] > 1}
    if twice:
        raise InputError(
            f"expected one callback of each kind and setting in `trainer.callbacks`, got two {', '.join(twice)} "
            "that are alike; take one out, or let them differ"
        )


def _has(callbacks: list[Callback], kind: type[Callback]) -> bool:
    return any(isinstance(item, kind) for item in callbacks)


def _views(model: PreferenceModule) -> Any:
    return model.views
