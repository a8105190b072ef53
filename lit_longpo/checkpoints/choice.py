"""Finds and checks the checkpoint that a trainer loads: a named one, or for "last" the newest of a run like this."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DeepSpeedStrategy, ModelParallelStrategy, Strategy

from lit_longpo.checkpoints.loops import model_checkpoints
from lit_longpo.checkpoints.reading import by_export, holds_weights_alone, refuse_bare, taken_before
from lit_longpo.checkpoints.record import Settings, run_settings
from lit_longpo.checkpoints.resumption import agreeing, agrees, check_settings, passed_over
from lit_longpo.checkpoints.stores import refuse_last_elsewhere
from lit_longpo.checkpoints.unpickling import refuse_code
from lit_longpo.checkpoints.whole import Kind, Manifest, damage, fault, kind, splits_weights, whole_ones
from lit_longpo.errors import InputError

log = logging.getLogger(__name__)

_REQUEUED = "hpc_ckpt_"  # what Lightning calls a checkpoint of a run that SLURM will start again
_WORDS = ("best",)  # left to Lightning, like what lies in a registry


class CheckpointChoice:
    """Finds the checkpoint that one call of `fit`, `validate` or `test` loads.

    Args:
        trusted: whether the user has said that a checkpoint may run code.
    """

    def __init__(self, trainer: Trainer, *, trusted: bool = False) -> None:
        self._trainer, self._trusted = trainer, trusted
        self._read_whole: set[Path] = set()  # checkpoints whose checksums agreed

    def to_fit(self, ckpt_path: str | Path | None, settings: Settings) -> tuple[str | Path | None, list[Path] | None]:
        """The checkpoint to fit from; or those of "last", one of which it is once the data are known.

        Raises:
            InputError: as `usable`; or it was trained with other settings, or holds weights alone.
        """
        if str(ckpt_path) in ("last", "hpc"):
            return None, agreeing(self._candidates(str(ckpt_path)), settings, fitting=True)
        if ckpt_path is None and SLURMEnvironment.detect() and (requeued := self._candidates("hpc")):
            return None, agreeing(requeued, settings, fitting=True)
        path = self.usable(ckpt_path, settings, fitting=True)
        if isinstance(path, Path):
            check_settings(path, settings)
            check_states(path)
        return path, None

    def to_score(self, ckpt_path: str | Path | None, model: Any) -> str | Path | None:
        """The checkpoint to validate or test, by objective and policy alone: it may have been trained in any way.

        Raises:
            InputError: as `usable`.
        """
        settings = run_settings(self._trainer, model)
        who = {name: value for name, value in settings.items() if name.startswith(("model", "policy."))}
        return self.usable(ckpt_path, who, fitting=False)

    def usable(self, ckpt_path: str | Path | None, settings: Settings, *, fitting: bool) -> str | Path | None:
        """The checkpoint to load, if it can be.

        Args:
            ckpt_path: a path, "last", "hpc", or what is left to Lightning.
            settings: of this run, or of what is validated and tested.
            fitting: whether it is trained further.

        Raises:
            InputError: it is on a web page, broken, of another kind of run, or holds code.
        """
        name = str(ckpt_path)
        if name.startswith("http"):  # as Lightning knows them; it would unpickle what comes, or another run's namesake
            raise InputError(
                f"expected a checkpoint on a disk or in an object store, got a web address; type: curl -LO {name} and "
                f"then --ckpt_path {name.rpartition('/')[2] or 'FILE'}"
            )
        if name in _WORDS:
            self._check_chosen(name)
        if ckpt_path is None or name in _WORDS or name.startswith("registry"):
            return ckpt_path
        path = self._last(name, settings) if name in ("last", "hpc") else Path(ckpt_path).expanduser()
        if path is not None:
            self.check(path, settings, fitting=fitting)
        return path

    def check(self, path: Path, settings: Settings, *, fitting: bool) -> None:
        """Refuse a checkpoint that is broken, that the strategy cannot read, or that holds code."""
        check_whole(path, settings, self.damage)
        if not self._trusted:
            refuse_code(path, "--weights_only false")
        refuse_bare(path)
        check_loadable(path, self._trainer.strategy, self._trainer.world_size, fitting=fitting)
        if fitting:
            check_end(path, self._trainer)

    def _check_chosen(self, name: str) -> None:
        """Refuse a word for what this process has not trained: Lightning asks its own callbacks."""
        if not any(getattr(each, "best_model_path", "") for each in self._trainer.checkpoint_callbacks):
            raise InputError(
                f"expected a checkpoint, or last, for --ckpt_path, got {name}, which only the process that has trained "
                "knows; type the path that the last lines of its fit call best"
            )

    def damage(self, path: Path) -> str | None:
        """What the checksums say, read by one process for all; those that are not launched yet read nothing."""
        if path in self._read_whole:
            return None
        found: str | None = self._trainer.strategy.broadcast(damage(path) if self._trainer.is_global_zero else None)
        if found is None:
            self._read_whole.add(path)
        return found

    def _candidates(self, name: str) -> list[Path]:
        """What "last" may be; of "hpc", what Lightning has written when SLURM was about to end the job."""
        refuse_last_elsewhere(model_checkpoints(self._trainer))
        found = whole_ones(Path(self._trainer.default_root_dir))
        return [path for path in found if name == "last" or path.name.startswith(_REQUEUED)]

    def _last(self, name: str, settings: Settings) -> Path | None:
        """What `validate` and `test` mean: the newest of this objective and policy, however it was trained."""
        found = agreeing(self._candidates(name), settings)
        path = next((path for path in found if not passed_over(path, self.damage(path))), None)
        if path is None:
            log.warning("no whole checkpoint of this objective and policy below %s", self._trainer.default_root_dir)
        else:
            log.warning("going on from %s", path)
        return path


def check_whole(path: Path, settings: Settings, damage: Callable[[Path], str | None]) -> None:
    """Refuse a broken checkpoint and name a good one of such a run.

    Args:
        path: the checkpoint.
        settings: of this run.
        damage: says what is wrong with the contents of one without a fault.
    """
    wrong = fault(path) or damage(path)
    if wrong is None:
        return
    others = (other for other in whole_ones(path.parent) if other != path)
    agreeing_ones = (other for other in others if agrees(other, settings))
    good = next((other for other in agreeing_ones if damage(other) is None), None)  # reads all of it, so it comes last
    nothing = "there is no whole one of these settings beside it: leave --ckpt_path out"
    advice = f"type: --ckpt_path {good}" if good else nothing
    raise InputError(f"expected a whole checkpoint at {path}, but {wrong}; {advice}")


def check_states(path: Path) -> None:
    """Refuse to go on without the optimizer's state.

    Raises:
        InputError: the checkpoint was written with `save_weights_only`.
    """
    if holds_weights_alone(path):
        raise InputError(
            f"expected a checkpoint with the optimizer's state, got {path}, which `save_weights_only` of a "
            f"ModelCheckpoint left out; start anew from its weights: --initial_weights {path} instead of --ckpt_path"
        )


def check_end(path: Path, trainer: Trainer) -> None:
    """Refuse a training that ends before the checkpoint: its result would be one of more steps, called finished.

    Raises:
        InputError: naming the limit.
    """
    if trainer.fast_dev_run:  # type: ignore[attr-defined]  # it has a length of its own
        return
    done = taken_before(path)
    begun = done.epochs + bool(done.rows)
    limits = {name: getattr(trainer, name) for name in ("max_steps", "max_epochs")}
    reached = {"max_steps": done.steps, "max_epochs": begun}
    passed = [name for name, limit in limits.items() if limit is not None and 0 <= limit < reached[name]]
    if passed:
        said = " and ".join(f"`trainer.{name}: {limits[name]}`" for name in passed)
        more = " ".join(f"--trainer.{name} {reached[name] + 1}" for name in passed)
        raise InputError(
            f"expected a training that ends behind {path} (step {done.steps}, {begun} epochs begun), got {said}; type "
            f"{more} or more to go on, or leave --ckpt_path out to train anew"
        )


def check_loadable(path: Path, strategy: Strategy, world_size: int, *, fitting: bool) -> None:
    """Refuse what the strategy would load wrongly or not at all."""
    form, readable = kind(path), _readable(strategy)
    manifest = Manifest.of(path) if path.is_dir() else None
    if form != readable:
        writer = f" of {manifest.strategy} with {manifest.world_size} processes" if manifest else ""
        raise InputError(
            f"{path} is a {form}{writer}, {type(strategy).__name__} reads a {readable}; go on with the "
            f"overlay that wrote it, or start anew from its weights: {_from_weights(path, strategy)}"
        )
    if isinstance(strategy, DeepSpeedStrategy):
        _check_deepspeed(path, strategy, world_size, manifest, fitting=fitting)


def _check_deepspeed(
    path: Path, strategy: DeepSpeedStrategy, world_size: int, manifest: Manifest | None, *, fitting: bool
) -> None:
    """Refuse what DeepSpeed has written in another stage, or from another number of processes to go on with."""
    weights = _from_weights(path, strategy)
    if fitting and manifest and manifest.world_size != world_size:
        raise InputError(
            f"{path} was saved by {manifest.world_size} processes, and DeepSpeed cannot split its optimizer states "
            f"over {world_size}; set --trainer.devices so that there are {manifest.world_size}, or start anew from "
            f"its weights: {weights}"
        )
    if not fitting and strategy.zero_stage_3:
        raise InputError(
            f"DeepSpeed cannot read the ZeRO-3 checkpoint {path} without its optimizer; type: python -m lit_longpo "
            f"export --checkpoint {path} --output FOLDER --merge_adapters true, then run this again with "
            "--policy.source FOLDER --policy.lora null instead of --ckpt_path and, if the objective has a reference, "
            "--reference.policy.source with the old source"
        )
    if splits_weights(path) != strategy.zero_stage_3:
        then, now = ("1 or 2", 3) if strategy.zero_stage_3 else (3, "1 or 2")
        raise InputError(
            f"{path} was saved under ZeRO stage {then}, and stage {now} keeps its states otherwise; go on with the "
            f"overlay that wrote it, or start anew from its weights: {weights}"
        )


def _readable(strategy: Strategy) -> Kind:
    if isinstance(strategy, DeepSpeedStrategy):
        return "DeepSpeed folder"
    return "torch folder" if isinstance(strategy, ModelParallelStrategy) else "file"


def _from_weights(path: Path, strategy: Strategy) -> str:
    """What to type to start anew from a checkpoint's weights."""
    if isinstance(strategy, DeepSpeedStrategy) and strategy.zero_stage_3:
        return by_export(path)
    return f"--initial_weights {path} instead of --ckpt_path"
