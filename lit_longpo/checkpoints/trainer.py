"""Lightning's trainer with checkpoints that are whole or absent, whatever the strategy."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import AsyncCheckpointIO
from lightning.pytorch.strategies import DeepSpeedStrategy, ModelParallelStrategy, Strategy
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

from lit_longpo.checkpoints.orphans import remove_orphans
from lit_longpo.checkpoints.record import Settings, run_settings
from lit_longpo.checkpoints.resumption import (
    NamedPaths,
    Resumption,
    agreeing,
    check_settings,
    newest_agreeing,
    passed_over,
)
from lit_longpo.checkpoints.room import ELSEWHERE, CheckpointRoom
from lit_longpo.checkpoints.signals import ended_by_status
from lit_longpo.checkpoints.stores import fetched, is_address, refuse_last_elsewhere, refuse_root
from lit_longpo.checkpoints.unpickling import refuse_code
from lit_longpo.checkpoints.whole import (
    Kind,
    Manifest,
    complete,
    damage,
    discard,
    fault,
    kind,
    partial_name,
    whole_ones,
)
from lit_longpo.errors import InputError, StorageError, UserError
from lit_longpo.files.storing import storing
from lit_longpo.run_folder import claim_version, keeps_nothing, only_owner, released_if_refused, run_folder_of
from lit_longpo.strategies.lifeline import TrainerLifeline

log = logging.getLogger(__name__)

_REQUEUED = "hpc_ckpt_"  # what Lightning calls a checkpoint of a run that SLURM will start again
_WORDS = ("best",)  # left to Lightning, like what lies in a registry


class ResumableTrainer(Trainer):
    """Writes checkpoints under a temporary name first, and refuses broken or unsuitable ones before it starts.

    Nodes must share the folder of the checkpoints. `ckpt_path="last"` is the newest whole checkpoint below
    `default_root_dir` that was trained with this run's objective, policy, optimizer and data.
    """

    _rows_before: int | None = None  # those that `fit` found trained on when it came to its loop
    _read_whole: frozenset[Path] = frozenset()  # checkpoints whose checksums agreed in this run
    _kept_room: CheckpointRoom | None = None
    _trusted = False  # whether the user has said that a checkpoint may run code

    @property
    def log_dir(self) -> str | None:
        """This run's folder; call it on every rank.

        Of loggers that only say where all of their runs lie (W&B, MLflow) it is the one where Lightning puts the run's
        checkpoints: Lightning's own answer would have runs overwrite each other's files.
        """
        first = next(iter(self.loggers), None)
        if first is None or first.log_dir is not None or keeps_nothing(self):
            return super().log_dir
        return self.strategy.broadcast(run_folder_of(first, self.default_root_dir) if self.is_global_zero else None)

    def save_checkpoint(
        self, filepath: str | Path, weights_only: bool | None = None, storage_options: Any | None = None
    ) -> None:
        """Save under a temporary name, then rename; call it on every rank.

        Args:
            filepath: file, or folder with strategies that shard.
            weights_only: leave optimizer, schedule and callbacks out.
            storage_options: see Lightning's `Trainer.save_checkpoint`.

        Raises:
            ValueError: with Lightning's `AsyncCheckpointIO`, whose files are whole at an unknown time.
        """
        if isinstance(self.strategy.checkpoint_io, AsyncCheckpointIO):
            raise InputError("checkpoints are renamed when they are whole; remove AsyncCheckpointIO from the plugins")
        if keeps_nothing(self):  # Lightning 2.6 writes a last one all the same
            return
        if is_address(filepath):  # an object appears when its upload is complete
            super().save_checkpoint(filepath, weights_only, storage_options)
            return
        path = Path(self.strategy.broadcast(str(filepath)))
        partial = partial_name(path)
        need = self._room.check(path.parent, weights_only=bool(weights_only))
        if self.is_global_zero:
            discard(partial)
        self.strategy.barrier("checkpoint")
        try:
            with storing(path.parent, ELSEWHERE, need):
                super().save_checkpoint(partial, weights_only, storage_options)
                if self.is_global_zero:
                    self._room.note(partial, path.parent, weights_only=bool(weights_only))
                    complete(partial, path, type(self.strategy).__name__, self.world_size)
        except StorageError:
            if self.is_global_zero:
                discard(partial)  # it may be what the disk is full of
            raise
        self.strategy.barrier("checkpoint")

    def fit(
        self,
        model: LightningModule,
        train_dataloaders: Any | None = None,
        val_dataloaders: Any | None = None,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | Path | None = None,
        weights_only: bool | None = None,
    ) -> None:
        """Train, perhaps from a checkpoint.

        Args:
            model: what is trained.
            train_dataloaders: training data, without a data module.
            val_dataloaders: validation data, without a data module.
            datamodule: both.
            ckpt_path: continue from this checkpoint; "last" is the newest whole one of such a run below
                `default_root_dir`.
            weights_only: `False` unpickles whatever the checkpoint holds, which may run code; everything else refuses
                what is no tensor or plain value.

        Raises:
            ValueError: the checkpoint is broken, holds more than tensors and plain values, was trained otherwise or on
                other data, or cannot be continued by this strategy or these processes; or the strategy would write
                checkpoints that it cannot continue.
        """
        if not getattr(self.strategy, "_save_distributed_checkpoint", True):
            raise InputError(
                "expected a strategy that can go on from its own checkpoints, got ModelParallelStrategy with "
                "`save_distributed_checkpoint: false`: it cannot split what it has put together; remove that line "
                "(python -m lit_longpo export makes one whole model of a folder)"
            )
        data = train_dataloaders if isinstance(train_dataloaders, LightningDataModule) else datamodule
        self._rows_before, self._kept_room = None, None
        refuse_root(self.default_root_dir)
        settings = run_settings(self, model, data)
        self._trusted, self._read_whole = weights_only is False, frozenset()
        check = partial(self._check, settings=settings, fitting=True)
        try:
            with fetched(ckpt_path) as near:
                path, last = self._start(near, settings)
                self._checkpoint_connector = Resumption(self, last, check, self._damage, named=path is not None)
                with storing(Path(self.default_root_dir), ELSEWHERE), self._owned_folder(), ended_by_status(self):
                    super().fit(model, train_dataloaders, val_dataloaders, datamodule, path, weights_only)
        except RuntimeError as error:
            # An error while the loader is restored makes Lightning's tidying up fail, which would hide it.
            if isinstance(error.__context__, UserError) and not isinstance(error, UserError):
                raise error.__context__ from None
            raise

    def validate(
        self,
        model: LightningModule | None = None,
        dataloaders: Any | None = None,
        ckpt_path: str | Path | None = None,
        verbose: bool = True,
        datamodule: LightningDataModule | None = None,
        weights_only: bool | None = None,
    ) -> Any:
        """One pass over the validation data; see `fit` and Lightning's `Trainer.validate`.

        Args:
            model: what is validated.
            dataloaders: validation data, without a data module.
            ckpt_path: weights to validate.
            verbose: print the results.
            datamodule: validation data.
            weights_only: see `fit`.
        """
        refuse_root(self.default_root_dir)
        with fetched(ckpt_path) as near:
            path = self._scored(near, model, weights_only)
            with storing(Path(self.default_root_dir), ELSEWHERE), ended_by_status(self):
                return super().validate(model, dataloaders, path, verbose, datamodule, weights_only)

    def test(
        self,
        model: LightningModule | None = None,
        dataloaders: Any | None = None,
        ckpt_path: str | Path | None = None,
        verbose: bool = True,
        datamodule: LightningDataModule | None = None,
        weights_only: bool | None = None,
    ) -> Any:
        """One pass over the test data; see `fit` and Lightning's `Trainer.test`.

        Args:
            model: what is tested.
            dataloaders: test data, without a data module.
            ckpt_path: weights to test.
            verbose: print the results.
            datamodule: test data.
            weights_only: see `fit`.
        """
        refuse_root(self.default_root_dir)
        with fetched(ckpt_path) as near:
            path = self._scored(near, model, weights_only)
            with storing(Path(self.default_root_dir), ELSEWHERE), ended_by_status(self):
                return super().test(model, dataloaders, path, verbose, datamodule, weights_only)

    def _run(self, *arguments: Any, **options: Any) -> Any:
        """Lightning's, in a process that ends when another of the group is dead."""
        with TrainerLifeline(self):
            return super()._run(*arguments, **options)

    @property
    def _room(self) -> CheckpointRoom:
        self._kept_room = self._kept_room or CheckpointRoom(self)
        return self._kept_room

    def _run_stage(self) -> Any:
        """Lightning's; a run that was over when it was stopped ends as every run ends: it validates, it is written."""
        self._rows_before = self._rows_ready()
        if self.state.fn == TrainerFn.FITTING and not keeps_nothing(self):
            self._room.check_early()
        over = self.state.fn == TrainerFn.FITTING and bool(self._checkpoint_connector._ckpt_path) and self.fit_loop.done
        try:
            results = super()._run_stage()
        except SIGTERMException as stop:
            stop.code = getattr(self._signal_connector, "status", None)
            if self.state.fn == TrainerFn.FITTING:
                self._save_stopped()
            raise
        if over:
            self.fit_loop.on_run_start()
            self.fit_loop.on_run_end()
        return results

    def _save_stopped(self) -> None:
        """A checkpoint of a training that was asked to stop, beside those of `ModelCheckpoint`; on every rank."""
        keeper = next((item for item in self.checkpoint_callbacks if isinstance(item, ModelCheckpoint)), None)
        if keeper is None or not keeper.dirpath or keeps_nothing(self):
            log.warning("stopped without a checkpoint: the trainer has no ModelCheckpoint")
            return
        name = keeper.CHECKPOINT_NAME_LAST if keeper.save_last is True else "stopped"
        keeper.last_model_path = os.path.join(keeper.dirpath, name + keeper.FILE_EXTENSION)
        began = time.monotonic()
        self.save_checkpoint(keeper.last_model_path)
        log.warning("%s written in %.1f s", keeper.last_model_path, time.monotonic() - began)

    @contextmanager
    def _owned_folder(self) -> Iterator[None]:
        """This run's folder: a new one, or one that nobody else writes into while this run does."""
        first = getattr(rank_zero_only, "rank", 0) == 0 and os.environ.get("NODE_RANK", "0") == "0"
        logger = next(iter(self.loggers), None)
        with ExitStack() as stack:
            if first and not keeps_nothing(self):
                numbered = claim_version(logger)
                if numbered:
                    stack.enter_context(released_if_refused(logger, self._has_begun))
                folder = self.default_root_dir if logger is None else logger.log_dir
                # Without a folder it has an identity of its own, and its files lie in one that is named by that.
                if folder is not None:
                    stack.enter_context(only_owner(Path(folder)))
                    remove_orphans(Path(folder), numbered=numbered)
            yield

    def _has_begun(self) -> bool:
        """Whether this `fit` has trained on a row; a resumed one counts on from its checkpoint."""
        return self._rows_before is not None and self._rows_ready() > self._rows_before

    def _rows_ready(self) -> int:
        return self.fit_loop.epoch_loop.batch_progress.total.ready

    def _scored(self, ckpt_path: str | Path | None, model: Any, weights_only: bool | None) -> str | Path | None:
        """The checkpoint to validate or test, if it can be."""
        self._trusted, self._read_whole = weights_only is False, frozenset()
        if not self._checkpoint_connector._user_managed:
            self._checkpoint_connector = NamedPaths(self)
        return self._usable(ckpt_path, self._who(model), fitting=False)

    def _usable(self, ckpt_path: str | Path | None, settings: Settings, *, fitting: bool) -> str | Path | None:
        """The checkpoint to load, if it can be."""
        name = str(ckpt_path)
        if name.startswith("http"):  # as Lightning knows them; it would unpickle what comes, or another run's namesake
            raise InputError(
                f"expected a checkpoint on a disk or in an object store, got a web address; type: curl -LO {name} and "
                f"then --ckpt_path {name.rpartition('/')[2] or 'FILE'}"
            )
        if ckpt_path is None or name in _WORDS or name.startswith("registry"):
            return ckpt_path
        path = self._last(name, settings) if name in ("last", "hpc") else Path(ckpt_path).expanduser()
        if path is not None:
            self._check(path, settings, fitting=fitting)
        return path

    def _candidates(self, name: str) -> list[Path]:
        """What "last" may be; of "hpc", what Lightning has written when SLURM was about to end the job."""
        refuse_last_elsewhere(self.checkpoint_callbacks)
        found = whole_ones(Path(self.default_root_dir))
        return [path for path in found if name == "last" or path.name.startswith(_REQUEUED)]

    def _last(self, name: str, settings: Settings) -> Path | None:
        """What `validate` and `test` mean: the newest of this objective and policy, however it was trained."""
        found = agreeing(self._candidates(name), settings)
        path = next((path for path in found if not passed_over(path, self._damage(path))), None)
        if path is None:
            log.warning("no whole checkpoint of this objective and policy below %s", self.default_root_dir)
        else:
            log.warning("going on from %s", path)
        return path

    def _who(self, model: Any) -> Settings:
        """Objective and policy alone: what is not trained any further may have been trained in any way."""
        settings = run_settings(self, model)
        return {name: value for name, value in settings.items() if name.startswith(("model", "policy."))}

    def _start(self, ckpt_path: str | Path | None, settings: Settings) -> tuple[str | Path | None, list[Path] | None]:
        """The checkpoint to fit from; or those of "last", one of which it is once the data are known."""
        if str(ckpt_path) in ("last", "hpc"):
            return None, agreeing(self._candidates(str(ckpt_path)), settings)
        if ckpt_path is None and SLURMEnvironment.detect() and (requeued := self._candidates("hpc")):
            return None, agreeing(requeued, settings)
        path = self._usable(ckpt_path, settings, fitting=True)
        if isinstance(path, Path):
            check_settings(path, settings)
        return path, None

    def _damage(self, path: Path) -> str | None:
        """What the checksums say, read by one process for all; those that are not launched yet read nothing."""
        if path in self._read_whole:
            return None
        found: str | None = self.strategy.broadcast(damage(path) if self.is_global_zero else None)
        if found is None:
            self._read_whole |= {path}
        return found

    def _check(self, path: Path, settings: Settings, *, fitting: bool) -> None:
        check_whole(path, settings, self._damage)
        if not self._trusted:
            refuse_code(path, "--weights_only false")
        check_strategy(path, self.strategy, self.world_size, fitting=fitting)


def check_whole(path: Path, settings: Settings, damage: Callable[[Path], str | None]) -> None:
    """Refuse a broken checkpoint and name a good one of such a run.

    Args:
        path: the checkpoint.
        settings: of this run.
        damage: says what is wrong with the contents of one without a fault.

    Raises:
        ValueError: saying what is wrong and what to type.
    """
    wrong = fault(path) or damage(path)
    if wrong is None:
        return
    others = (other for other in whole_ones(path.parent) if other != path)
    agreeing_ones = (other for other in others if newest_agreeing([other], settings))
    good = next((other for other in agreeing_ones if damage(other) is None), None)  # reads all of it, so it comes last
    nothing = "there is no whole one of these settings beside it: leave --ckpt_path out"
    advice = f"type: --ckpt_path {good}" if good else nothing
    raise InputError(f"expected a whole checkpoint at {path}, but {wrong}; {advice}")


def check_strategy(path: Path, strategy: Strategy, world_size: int, *, fitting: bool) -> None:
    """Refuse what the strategy would load wrongly or not at all.

    Raises:
        ValueError: saying what wrote the checkpoint and what to type.
    """
    form, loads = kind(path), _loads(strategy)
    manifest = Manifest.of(path) if path.is_dir() else None
    export = f"python -m lit_longpo export --checkpoint {path} --output FOLDER"
    if form not in loads:
        writer = f" of {manifest.strategy} with {manifest.world_size} processes" if manifest else ""
        raise InputError(
            f"{path} is a {form}{writer}, {type(strategy).__name__} reads a {' or a '.join(loads)}; go on with the "
            f"overlay that wrote it, or start anew from its weights: {export}, then --policy.source FOLDER"
        )
    if fitting and form == "DeepSpeed folder" and manifest and manifest.world_size != world_size:
        raise InputError(
            f"{path} was saved by {manifest.world_size} processes, and DeepSpeed cannot split its optimizer states "
            f"over {world_size}; set --trainer.devices so that there are {manifest.world_size}, or start anew from "
            f"its weights: {export}, then --policy.source FOLDER"
        )
    if not fitting and isinstance(strategy, DeepSpeedStrategy) and strategy.zero_stage_3:
        raise InputError(
            f"DeepSpeed cannot read the ZeRO-3 checkpoint {path} without its optimizer; type: {export} "
            "--merge_adapters true, then run this again with --policy.source FOLDER --policy.lora null instead of "
            "--ckpt_path and, if the objective has a reference, --reference.policy.source with the old source"
        )


def _loads(strategy: Strategy) -> tuple[Kind, ...]:
    if isinstance(strategy, DeepSpeedStrategy):
        return ("DeepSpeed folder",)
    return ("torch folder",) if isinstance(strategy, ModelParallelStrategy) else ("file",)
