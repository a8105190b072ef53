"""A run's name: a folder, or what a tracking server calls it."""

import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from lit_longpo.errors import InputError, MissingPackageError

# Which of its arguments is a run's name.
_NAMES = {
    "TensorBoardLogger": "name",
    "CSVLogger": "name",
    "WandbLogger": "name",
    "CometLogger": "name",
    "NeptuneLogger": "name",
    "LitLogger": "name",
    "MLFlowLogger": "run_name",
}
_BEYOND = "dict_kwargs"  # of a class_path: what it takes as `**kwargs`, which a parser refuses among its arguments


def name_loggers(trainer: Namespace, name: str | None) -> None:
    """Give configured loggers the run's name, and those that would write elsewhere the trainer's root folder.

    The loggers' sections are changed in place, before anything is made of them.

    Raises:
        InputError: the name is no part of a path, there is no logger that takes it, or `barebones` allows none.
    """
    check_name(name)
    loggers = trainer.get("logger")
    if trainer.get("barebones"):
        _refuse_beside_barebones(loggers, name)
    if name is not None and loggers is False:
        raise InputError(
            f"expected a logger for `name: {name}`, got `trainer.logger: false`; type --trainer.default_root_dir "
            f"runs/{name} instead"
        )
    for logger in _each(loggers):
        if isinstance(logger, Namespace):
            _name(logger, name, trainer.get("default_root_dir"))


def _refuse_beside_barebones(loggers: Any, name: str | None) -> None:
    """Lightning would refuse them by their addresses, or the logger that we make for a name."""
    if loggers:
        kinds = [str(each.class_path).rpartition(".")[2] for each in _each(loggers) if isinstance(each, Namespace)]
        raise InputError(
            "expected no logger with `trainer.barebones: true`, which measures bare speed, got `trainer.logger: "
            f"{', '.join(kinds) or loggers}`; type --trainer.logger false, or --trainer.barebones false"
        )
    if name is not None:
        raise InputError(
            f"expected no name with `trainer.barebones: true`, which logs nothing, got `name: {name}`; type "
            f"--trainer.default_root_dir runs/{name} instead, or --name null"
        )


def _each(loggers: Any) -> list[Any]:
    return loggers if isinstance(loggers, list) else [loggers]


def check_name(name: str | None) -> None:
    """Refuse a name that would lead out of the root folder."""
    parts = [] if name is None else name.split("/")
    if any(not re.fullmatch(r"[\w.=+,@ -]+", part) or not part.strip(". ") for part in parts):
        raise InputError(
            f"expected a `name` of letters, digits and any of '._=+,@-', with '/' between folders, got {name!r}; type "
            "for example --name beta-0.1"
        )


def named_logger(root: str | None, name: str) -> TensorBoardLogger:
    """The logger in place of Lightning's default one, with runs in `<root>/<name>/version_<n>`."""
    return TensorBoardLogger(root or ".", name=name, default_hp_metric=False)


def place_of(logger: Logger) -> str:
    """Where a logger writes: its folder, or what its server calls the run."""
    folder = getattr(logger, "log_dir", None) or logger.save_dir
    return f"{type(logger).__name__} {folder and Path(folder).resolve()} {logger.name} {logger.version}"


def _name(logger: Namespace, name: str | None, root: Any) -> None:
    kind = str(logger.get("class_path")).rpartition(".")[2]
    settings, beyond = logger.get("init_args", Namespace()), dict(logger.get(_BEYOND) or {})
    if name is not None:
        if kind not in _NAMES:
            raise InputError(
                f"expected a logger that takes a run's `name` ({', '.join(_NAMES)}), got {kind}; name the run in its "
                "own settings"
            )
        (beyond if kind == "CometLogger" else settings)[_NAMES[kind]] = name
    if root is not None:
        if kind == "CometLogger":
            beyond.setdefault("offline_directory", str(root))
        if settings.get("save_dir") == "":  # whoever's: the parser's, for one that has to be typed
            settings["save_dir"] = str(root)
        if kind in _PLACES:
            _PLACES[kind](settings, Path(root))
    logger["init_args"] = settings
    if beyond:
        logger[_BEYOND] = beyond


def _place_wandb(settings: Namespace, root: Path) -> None:
    if settings.get("save_dir") == ".":
        settings["save_dir"] = str(root)


def _place_mlflow(settings: Namespace, root: Path) -> None:
    """A database, as MLflow 3 wants one: it refuses the plain files that Lightning's logger would have it write."""
    if settings.get("tracking_uri") is None and settings.get("save_dir") == "./mlruns":
        if find_spec("mlflow") is not None and find_spec("sqlalchemy") is None:  # mlflow-skinny is without it
            raise MissingPackageError(
                "expected the package `sqlalchemy`, which MLflow's database takes, found none; type: pip install mlflow"
            )
        root.mkdir(parents=True, exist_ok=True)  # which SQLite does not make
        settings["tracking_uri"] = f"sqlite:///{root}/mlflow.db"
        settings["artifact_location"] = settings.get("artifact_location") or (root / "mlartifacts").absolute().as_uri()


# Left alone, they write below the current folder, where `--ckpt_path last` does not look, or are refused.
_PLACES: dict[str, Callable[[Namespace, Path], None]] = {"WandbLogger": _place_wandb, "MLFlowLogger": _place_mlflow}
