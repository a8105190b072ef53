"""Finds a model's files, what it was trained from, and its prompt template, from the run that made it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lit_longpo.checkpoints.whole import kind, newest_whole, refuse_broken
from lit_longpo.command_line.recipes import shipped_folder
from lit_longpo.errors import InputError, MissingFileError
from lit_longpo.export.run import TrainedRun, plain_section, read_run
from lit_longpo.files.folders import holds_model
from lit_longpo.files.strict_json import instead
from lit_longpo.policy import PromptTemplate
from lit_longpo.policy.adapters.config import ADAPTER_CONFIG
from lit_longpo.policy.locations import EMBEDDED, locate
from lit_longpo.policy.model_files import ModelFiles
from lit_longpo.policy.prompts.trained_prompt import CARD, TEMPLATE_KEY, template_in_card

_CONFIG, _MODEL = "config.yaml", "model"
_SUFFIX = ".ckpt"
# Of a run's policy: what a model that it has written is read with, too. Its code is run only where that is typed.
_STILL_MEANT = ("template", "attention")
_BENEATH_ADAPTERS = ("dtype", "quantization")  # whole models say theirs in config.json
_ROWS = {"dtype": "dtype", "quantization": "4-bit base weights"}  # of a model card
_NOT_MEANT = ("trust_remote_code", "gradient_checkpointing")


@dataclass(frozen=True)
class Origin:
    """A model's files, and what is known about them.

    Args:
        source: as `policy.source` says it.
        settings: of `policy`, by whoever trained it; what is typed goes first.
        checkpoint: whose weights are put into the policy; `None` where `source` has them.
        told_by: the file that knows the prompt's form; `None` if nobody does.
        base: what the training started from; `None` if that is not known.
        beneath: adapters whose base model's weights these are, in the version that they name.
    """

    source: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: Path | None = None
    told_by: str | None = None
    base: "Origin | None" = None
    beneath: str | None = None

    @property
    def name(self) -> str:
        """What was typed, in short."""
        return str(self.checkpoint or self.source)


def origin_of(source: str, gguf_file: str | None = None) -> Origin:
    """A checkpoint, a run's folder, a folder with a model or adapters, a hub name or "embedded".

    Raises:
        MissingFileError: there is none, or a run has left neither a model nor a checkpoint.
        InputError: a checkpoint is broken.
    """
    path = Path(source).expanduser()
    if source == EMBEDDED:
        return _embedded()
    if path.suffix == _SUFFIX or _is_checkpoint(path):
        return _of_checkpoint(path)
    if path.is_dir() and (path / _CONFIG).is_file() and not holds_model(path):
        return _of_run(path)
    return _of_folder(source, path, gguf_file)


def _embedded() -> Origin:
    card = shipped_folder() / "model" / "tiny.yaml"
    settings = yaml.safe_load(card.read_text(encoding="utf-8"))
    return Origin(EMBEDDED, _meant(settings), told_by=card.name)


def _is_checkpoint(path: Path) -> bool:
    try:
        return path.exists() and not holds_model(path) and kind(path) != "file"
    except InputError:
        return False


def _of_checkpoint(path: Path) -> Origin:
    refuse_broken(path, "--model")
    run = read_run(path, None)
    settings = _meant(run.config["policy"])
    return Origin(run.policy.source, settings, path, _told_by(path), _started_from(run))


def _of_run(folder: Path) -> Origin:
    """What a run has left: its model, or else its newest whole checkpoint."""
    if holds_model(folder / _MODEL):
        return _of_folder(str(folder / _MODEL), folder / _MODEL)
    checkpoint = newest_whole(folder)
    if checkpoint is None:
        raise MissingFileError(
            f"expected a model or a checkpoint of the run in {folder}, found neither; set --model to what it has left"
        )
    return _of_checkpoint(checkpoint)


def _of_folder(source: str, path: Path, gguf_file: str | None = None) -> Origin:
    """A model or adapters, with what the run above them or their model card says."""
    config = path.parent / _CONFIG
    run = read_run(path, config) if path.is_dir() and path.name == _MODEL and config.is_file() else None
    if run is not None:
        meant = (*_STILL_MEANT, *(_BENEATH_ADAPTERS if (path / ADAPTER_CONFIG).is_file() else ()))
        settings = {name: value for name, value in run.config["policy"].items() if name in meant}
        return Origin(source, settings, None, str(config), _started_from(run))
    template = _template_in_card(path / CARD)
    settings = {} if template is None else {"template": template}
    if template is not None and (path / ADAPTER_CONFIG).is_file():  # whole models say it in config.json
        settings |= _beneath_in_card(path / CARD)
    told_by = None if template is None else str(path / CARD)
    adapters = ModelFiles(source, gguf_file).adapters()
    base = None if adapters is None else Origin(adapters.base, settings, told_by=told_by, beneath=source)
    return Origin(source, settings, None, told_by, base)


def _started_from(run: TrainedRun) -> Origin | None:
    """The policy before training, if it can be had again: not if it was drawn at random, or is gone."""
    if run.policy.weights == "random":
        return None
    try:
        locate(run.policy.source, run.policy.gguf_file)
    except MissingFileError:
        return None
    return Origin(run.policy.source, {**_meant(run.config["policy"]), "lora": None}, told_by="config.yaml of the run")


def _meant(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in _NOT_MEANT}


def _told_by(checkpoint: Path) -> str:
    return next(str(folder / _CONFIG) for folder in checkpoint.absolute().parents if (folder / _CONFIG).is_file())


def _beneath_in_card(card: Path) -> dict[str, Any]:
    """Precision and 4 bits of the base while adapters were trained over it; their own files have fp32 for any."""
    text = card.read_text(encoding="utf-8")
    found = {name: re.search(rf"^\| {row} \| (.+) \|$", text, re.MULTILINE) for name, row in _ROWS.items()}
    return {name: yaml.safe_load(row[1]) for name, row in found.items() if row is not None}


def _template_in_card(card: Path) -> dict[str, Any] | None:
    """What a model card of ours says about the prompt, if all of it is known here; others say nothing."""
    template = template_in_card(card)
    if template is None:
        return None
    with instead("correct that line of the model card"):
        plain_section(template, PromptTemplate, f"{card}: {TEMPLATE_KEY}")
    return dict(template)
