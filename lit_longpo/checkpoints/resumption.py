"""Chooses the checkpoint that a run resumes from: one whose recorded settings and data are those of this run."""

import json
import logging
import shlex
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.trainer.connectors.checkpoint_connector import _CheckpointConnector
from lightning.pytorch.trainer.states import TrainerFn

from lit_longpo.checkpoints.reading import holds_weights_alone, read_record
from lit_longpo.checkpoints.record import (
    OF_SWEEPS,
    Settings,
    contradictions,
    data_fingerprint,
    is_slight,
    run_settings,
)
from lit_longpo.errors import InputError

log = logging.getLogger(__name__)


class NamedPathsConnector(_CheckpointConnector):
    """Lightning's checkpoint connector, but it only loads a checkpoint that was named.

    Under SLURM Lightning 2.6 takes whatever run's `hpc_ckpt_N.ckpt` lies in the root folder, unlooked at.
    """

    @property
    def _hpc_resume_path(self) -> None:
        return None


class ResumingConnector(NamedPathsConnector):
    """Lightning's checkpoint connector, but it compares a checkpoint with the training data, or finds one by them.

    Args:
        last: checkpoints to choose from, the newest first; `None` if one was named.
        check: refuses the one that is chosen, if the strategy cannot read it.
        damage: what is wrong with the contents of one, in words.
    """

    def __init__(
        self,
        trainer: Trainer,
        last: Sequence[Path] | None,
        check: Callable[[Path], None],
        damage: Callable[[Path], str | None],
        *,
        named: bool = False,
    ) -> None:
        super().__init__(trainer)
        self.last, self.check, self.damage, self.named = last, check, damage, named

    def resume_start(self, checkpoint_path: Any = None, weights_only: bool | None = None) -> None:
        """Load the checkpoint to resume from; Lightning calls this when data and policy are ready."""
        if self.trainer.state.fn == TrainerFn.FITTING:
            if self.last is not None:
                checkpoint_path = checkpoint_path or self._last_of_this_data(self.last)
            elif checkpoint_path and Path(checkpoint_path).exists():
                check_data(Path(checkpoint_path), self.trainer)
        super().resume_start(checkpoint_path, weights_only)

    def _last_of_this_data(self, candidates: Sequence[Path]) -> Path | None:
        now, passed = data_fingerprint(self.trainer), list[str]()
        for path in candidates:
            if _other_data(read_record(path), now):
                passed.append(f"{path}: it was trained on other data")
            elif not passed_over(path, self.damage(path)):  # reads all of it, so it comes last
                _warn_of_passed(passed)
                log.warning("going on from %s", path)
                self.check(path)
                _warn_of_slight(path, self.trainer)
                return path
        _warn_of_passed(passed)
        where = self.trainer.default_root_dir
        log.warning(
            "no whole checkpoint of these settings and data below %s: starting at step 0; --initial_weights PATH "
            "would start from the weights of another",
            where,
        )
        return None


def passed_over(path: Path, damaged: str | None) -> bool:
    """Whether a checkpoint is damaged; warns if so."""
    if damaged is not None:
        log.warning("passing over %s: %s", path, damaged)
    return damaged is not None


def starts_anew(trainer: Trainer) -> bool:
    """Whether there is certainly no checkpoint to resume from, known before any is read."""
    connector = trainer._checkpoint_connector
    return isinstance(connector, ResumingConnector) and not connector.named and not connector.last


def agreeing(paths: Sequence[Path], settings: Settings, *, fitting: bool = False) -> list[Path]:
    """The checkpoints whose settings, seeds and initial weights are those of this run, as far as is known without data.

    Those that hold weights alone are left out if training is to continue. A warning names the newest one that is
    passed over.
    """
    chosen, passed = list[Path](), list[str]()
    for path in paths:
        differing = _grave(read_record(path), settings, OF_SWEEPS)
        if differing:
            if not chosen:  # said of newer ones
                passed.append(f"{path}: it was trained with {_in_words(differing)}")
        elif fitting and holds_weights_alone(path):
            passed.append(f"{path}: it holds weights alone (`save_weights_only`)")
        else:
            chosen.append(path)
    _warn_of_passed(passed)
    return chosen


def _warn_of_passed(passed: Sequence[str]) -> None:
    """Log the checkpoints that are passed over in one line, however many runs share a folder."""
    if passed:
        others = f" (and over {len(passed) - 1} more like it)" if len(passed) > 1 else ""
        log.warning("passing over %s%s", passed[0], others)


def agrees(path: Path, settings: Settings) -> bool:
    """Whether a checkpoint's settings, seeds and initial weights are those of this run; logs nothing."""
    return not _grave(read_record(path), settings, OF_SWEEPS)


def check_settings(path: Path, settings: Settings) -> None:
    """Refuse to resume from a checkpoint whose training had other settings than this run, slight ones apart."""
    record = read_record(path)
    if "model" in settings and "settings" not in record:
        log.warning("%s does not say what it was trained with: nothing to compare this run's settings with", path)
    differing = _grave(record, settings)
    if differing:
        typed = " ".join(f"--{name} {_typed(_section(name, then, record))}" for name, (then, _) in differing.items())
        raise InputError(
            f"expected to go on with what {path} was trained with, got other settings ({_in_words(differing)}); type "
            f"{typed}, or start anew from its weights: --initial_weights {path} instead of --ckpt_path"
        )


def check_data(path: Path, trainer: Trainer) -> None:
    """Refuse to resume with other training data, and warn of other changed settings."""
    now = data_fingerprint(trainer)
    then = _other_data(read_record(path), now)
    if then:
        raise InputError(
            f"expected the training data of {path} (data_fingerprint {then}), got others ({now}); set the `data` "
            f"section and the template of its config.yaml, or start anew from its weights: --initial_weights {path} "
            "instead of --ckpt_path"
        )
    _warn_of_slight(path, trainer)


def _warn_of_slight(path: Path, trainer: Trainer) -> None:
    record = read_record(path)
    differing = contradictions(record, run_settings(trainer, trainer.lightning_module))
    if differing:
        log.warning("going on with changed settings: %s", _in_words(differing))


def _other_data(record: dict[str, Any], now: str | None) -> str | None:
    """The checkpoint's data fingerprint if it differs from today's; `None` if it agrees or is not known."""
    then: str | None = record.get("data_fingerprint")
    return then if then and now and then != now else None


def _grave(record: dict[str, Any], settings: Settings, more: Collection[str] = ()) -> dict[str, tuple[Any, Any]]:
    """Settings that differ and may not; `more` names slight ones that may not either."""
    differing = contradictions(record, settings) if "model" in settings else {}
    return {name: pair for name, pair in differing.items() if name in more or not is_slight(name)}


def _in_words(differing: dict[str, tuple[Any, Any]]) -> str:
    return ", ".join(f"`{name}` {_typed(then)}, now {_typed(now)}" for name, (then, now) in differing.items())


def _section(name: str, value: Any, record: dict[str, Any]) -> Any:
    """A setting's value as it can be typed: of a dataclass its fields as JSON, not its name."""
    start = f"{name}."
    inside = {key.removeprefix(start): part for key, part in record["settings"].items() if key.startswith(start)}
    return json.dumps(inside) if inside and name.startswith("policy.") else value


def _typed(value: Any) -> str:
    return "null" if value is None else shlex.quote(str(value))  # to be pasted into a shell
