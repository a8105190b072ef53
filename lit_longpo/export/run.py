"""The run behind a checkpoint: its config.yaml and the policy it describes."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from lit_longpo.errors import InputError, MissingFileError, error_text
from lit_longpo.files.plain_yaml import check_plain
from lit_longpo.files.stored import stored_as
from lit_longpo.files.strict_json import RecordError
from lit_longpo.policy import PolicyConfig

Kind = TypeVar("Kind")
_NAME = "config.yaml"
_CLASS = "class_path"  # how jsonargparse's files name one
_LEVELS = 4  # a checkpoint lies in `checkpoints`, in the run's folder


@dataclass(frozen=True)
class TrainedRun:
    """What was trained and how: a run's resolved config.yaml, and its `policy` section."""

    config: dict[str, Any]
    policy: PolicyConfig

    @property
    def models(self) -> Iterator[PolicyConfig]:
        """The policy, and the reference's own model if it has one."""
        yield self.policy
        if other := (self.config.get("reference") or {}).get("policy"):
            yield plain_section(other, PolicyConfig, f"the run's {_NAME}: the `reference.policy` section")


def read_run(checkpoint: Path, config: Path | None, *, trust_remote_code: bool = False) -> TrainedRun:
    """The run that wrote a checkpoint.

    Args:
        checkpoint: file or folder.
        config: its config.yaml; `None` looks beside and above the checkpoint.
        trust_remote_code: whether code that the model ships may run; the file has no say in it.

    Raises:
        MissingFileError: there is none.
        InputError: it is not a run's.
    """
    path = config or _find(checkpoint)
    if not path.is_file():
        raise MissingFileError(f"expected a run's {_NAME} at {path}, found none; set --config")
    check_plain(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:  # a date may have no such day
        raise InputError(
            f"expected a run's {_NAME} at {path}, got what cannot be read: {error_text(error)}; set --config"
        ) from error
    if not isinstance(values, dict) or "policy" not in values:
        raise InputError(f"expected a run's resolved {_NAME} with a `policy` section, got {path}; set --config")
    policy = plain_section(values["policy"], PolicyConfig, f"{path}: the `policy` section")
    return TrainedRun(values, dataclasses.replace(policy, trust_remote_code=trust_remote_code))


def _find(checkpoint: Path) -> Path:
    above = list(checkpoint.absolute().parents)[:_LEVELS]
    path = next((folder / _NAME for folder in above if (folder / _NAME).is_file()), None)
    if path is None:
        raise MissingFileError(
            f"expected the run's {_NAME} in {above[0]} or up to {_LEVELS - 1} folders above it, found none; "
            f"type: --config PATH of the {_NAME} that `fit` wrote into the run's folder"
        )
    return path


def plain_section(section: Any, kind: type[Kind], where: str) -> Kind:
    """What somebody's file says about a policy, as data.

    A parser of command lines imports and calls whatever such a section names, and parts of this one may come to one.

    Raises:
        RecordError: it is no mapping, has other fields, or names a class.
    """
    if not isinstance(section, dict):
        raise RecordError.at(where, "record", "a mapping", section)
    if (named := next(_classes(section), None)) is not None:
        raise RecordError.at(where, f"field {_CLASS!r}", "no class, which would be imported and called", named)
    return stored_as(section, kind, where)


def _classes(value: Any) -> Iterator[Any]:
    """What is named as a class, however deep."""
    if isinstance(value, dict):
        if _CLASS in value:
            yield value[_CLASS]
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _classes(part)
