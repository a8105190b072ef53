"""The run behind a checkpoint: its config.yaml and the policy it describes."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from lit_longpo.errors import InputError, MissingFileError
from lit_longpo.policy import PolicyConfig
from lit_longpo.wording import repeated_key

_NAME = "config.yaml"
_LEVELS = 4  # a checkpoint lies in `checkpoints`, in the run's folder


@dataclass(frozen=True)
class Run:
    """What was trained and how.

    Args:
        config: the resolved config.yaml.
        policy: its `policy` section.
    """

    config: dict[str, Any]
    policy: PolicyConfig


def read_run(checkpoint: Path, config: Path | None, *, trust_remote_code: bool = False) -> Run:
    """The run that wrote a checkpoint.

    Args:
        checkpoint: file or folder.
        config: its config.yaml; `None` looks beside and above the checkpoint.
        trust_remote_code: whether code that the model ships may run; the file has no say in it.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not a run's.
    """
    path = config or _find(checkpoint)
    if not path.is_file():
        raise MissingFileError(f"expected a run's {_NAME} at {path}, found none; set --config")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())
        raise InputError(
            f"expected a run's {_NAME} at {path}, got what cannot be read: {said}; set --config"
        ) from error
    if (twice := repeated_key(path)) is not None:
        raise InputError(f"{twice}, or set --config")
    if not isinstance(values, dict) or "policy" not in values:
        raise InputError(f"expected a run's resolved {_NAME} with a `policy` section, got {path}; set --config")
    return Run(values, dataclasses.replace(_policy(values["policy"], path), trust_remote_code=trust_remote_code))


def _find(checkpoint: Path) -> Path:
    above = list(checkpoint.absolute().parents)[:_LEVELS]
    path = next((folder / _NAME for folder in above if (folder / _NAME).is_file()), None)
    if path is None:
        raise MissingFileError(
            f"expected the run's {_NAME} in {above[0]} or up to {_LEVELS - 1} folders above it, found none; "
            f"type: --config PATH of the {_NAME} that `fit` wrote into the run's folder"
        )
    return path


def _policy(section: Any, path: Path) -> PolicyConfig:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(PolicyConfig, "policy")
    try:
        policy: PolicyConfig = parser.instantiate_classes(parser.parse_object({"policy": section})).policy
    except Exception as error:  # of several kinds, by jsonargparse's version
        raise InputError(f"the `policy` section of {path} cannot be read: {error}") from error
    return policy
