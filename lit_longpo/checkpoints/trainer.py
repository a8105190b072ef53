"""Lightning's trainer with checkpoints that are whole or absent, whatever the strategy."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.plugins.io import AsyncCheckpointIO
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

from lit_longpo.checkpoints.choice import CheckpointChoice
from lit_longpo.checkpoints.loops import model_checkpoints
from lit_longpo.checkpoints.loops.averages import take_averages_back
from lit_longpo.checkpoints.loops.each_validation import look_at_each_validation
from lit_longpo.checkpoints.loops.early_stops import decide_behind_least_length
from lit_longpo.checkpoints.loops.last_steps import keep_last_steps
from lit_longpo.checkpoints.loops.loop_parts import check_parts
from lit_longpo.checkpoints.loops.whole_steps import keep_steps_whole
from lit_longpo.checkpoints.orphans import remove_orphans
from lit_longpo.checkpoints.progress import is_over, rows_so_far, warn_of_nothing_left
from lit_longpo.checkpoints.record import run_settings
from lit_longpo.checkpoints.resumption import NamedPathsConnector, ResumingConnector
from lit_longpo.checkpoints.room import ELSEWHERE, CheckpointRoom
from lit_longpo.checkpoints.signals import ended_by_status, requeue_job
from lit_longpo.checkpoints.stores import fetched, is_address, refuse_root
from lit_longpo.checkpoints.whole import complete, discard, partial_name
from lit_longpo.errors import InputError, StorageError, UserError
from lit_longpo.files.storing import storing
from lit_longpo.loggers.csv_rows import EarlierRows
from lit_longpo.run_folder import claim_versions, folder_of_logger, keeps_nothing, only_owner, released_if_refused
from lit_longpo.strategies.watchdog import TrainerWatchdog

log = logging.getLogger(__name__)


class ResumableTrainer(Trainer):
    """Lightning's trainer; its checkpoints are whole or absent, and broken or unsuitable ones are refused at the start.

    Nodes must share the folder of the checkpoints. `ckpt_path="last"` is the newest whole checkpoint below
    `default_root_dir` that was trained with this run's objective, policy, optimizer and data.
    """

    _rows_before: int | None = None  # those that `fit` found trained on when it came to its loop
    _kept_room: CheckpointRoom | None = None
    _earlier_rows = EarlierRows(())

    @property
    def log_dir(self) -> str | None:
        """This run's folder; call it on every rank.

        Of loggers that only say where all of their runs lie (W&B, MLflow) it is the one where Lightning puts the run's
        checkpoints: Lightning's own answer would have runs overwrite each other's files.
        """
        first = next(iter(self.loggers), None)
        if first is None or first.log_dir is not None or keeps_nothing(self):
            return super().log_dir
        return self.strategy.broadcast(folder_of_logger(first, self.default_root_dir) if self.is_global_zero else None)

    def save_checkpoint(
        self, filepath: str | Path, weights_only: bool | None = None, storage_options: Any | None = None
    ) -> None:
        """Save under a temporary name, then rename; call it on every rank.

        Raises:
            InputError: with Lightning's `AsyncCheckpointIO`, whose files are whole at an unknown time.
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
        """Train, from the start or from a checkpoint.

        Args:
            model: what is trained.
            train_dataloaders: training data, without a data module.
            val_dataloaders: validation data, without a data module.
            datamodule: both.
            ckpt_path: continue from this checkpoint. "last" is the newest whole one below `default_root_dir` that was
                trained with these settings.
            weights_only: `False` unpickles whatever the checkpoint contains, which may run code. Otherwise anything
                but tensors and plain values is refused.

        Raises:
            InputError: the checkpoint is broken, holds more than tensors and plain values, was trained otherwise or on
                other data, or cannot be continued by this strategy or these processes; or the strategy would write
                checkpoints that it cannot continue.
        """
        self._check_strategy()
        data = train_dataloaders if isinstance(train_dataloaders, LightningDataModule) else datamodule
        self._prepare()
        settings = run_settings(self, model, data)
        choice = CheckpointChoice(self, trusted=weights_only is False)
        check = partial(choice.check, settings=settings, fitting=True)
        try:
            with fetched(ckpt_path) as near:
                path, last = choice.to_fit(near, settings)
                self._checkpoint_connector = ResumingConnector(self, last, check, choice.damage, named=path is not None)
                with storing(Path(self.default_root_dir), ELSEWHERE), self._owned_folder(), ended_by_status(self):
                    super().fit(model, train_dataloaders, val_dataloaders, datamodule, path, weights_only)
        except RuntimeError as error:
            # An error while the loader is restored makes Lightning's tidying up fail, which would hide it.
            if isinstance(error.__context__, UserError) and not isinstance(error, UserError):
                raise error.__context__ from None
            raise

    def _check_strategy(self) -> None:
        """Refuse one whose checkpoints it cannot read."""
        if not getattr(self.strategy, "_save_distributed_checkpoint", True):
            raise InputError(
                "expected a strategy that can go on from its own checkpoints, got ModelParallelStrategy with "
                "`save_distributed_checkpoint: false`: it cannot split what it has put together; remove that line "
                "(python -m lit_longpo export makes one whole model of a folder)"
            )

    def _prepare(self) -> None:
        """Check Lightning's parts and adapt its loops, before a checkpoint is looked for."""
        self._rows_before, self._kept_room = None, None
        refuse_root(self.default_root_dir)
        check_parts(self)
        keep_steps_whole(self)
        decide_behind_least_length(self)
        look_at_each_validation(self)
        keep_last_steps(self)

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
        with self._scoring(ckpt_path, model, weights_only) as path:
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
        with self._scoring(ckpt_path, model, weights_only) as path:
            return super().test(model, dataloaders, path, verbose, datamodule, weights_only)

    def _run(self, *arguments: Any, **options: Any) -> Any:
        """As Lightning's, but this process ends if another process of the group dies."""
        self._earlier_rows = EarlierRows(self.loggers if _is_first_process() and not keeps_nothing(self) else ())
        with TrainerWatchdog(self), self._earlier_rows.kept():
            return super()._run(*arguments, **options)

    @property
    def _room(self) -> CheckpointRoom:
        self._kept_room = self._kept_room or CheckpointRoom(self)
        return self._kept_room

    def _run_stage(self) -> Any:
        """Lightning's; a run that was over when it was stopped ends as every run ends: it validates, it is written."""
        self._rows_before = rows_so_far(self)
        fitting = self.state.fn == TrainerFn.FITTING
        goes_on = fitting and bool(self._checkpoint_connector._ckpt_path)
        self._earlier_rows.put_back(anew=fitting and not goes_on, steps=self.global_step if fitting else None)
        if fitting and not keeps_nothing(self):
            self._room.check_early()
        over = goes_on and is_over(self)
        if goes_on and self.is_global_zero:
            warn_of_nothing_left(self, over=over)
        try:
            results = super()._run_stage()
        except SIGTERMException as stop:
            stop.code = getattr(self._signal_connector, "status", None)
            if fitting:
                self._save_stopped()
            raise
        if over:
            self.fit_loop.on_run_start()
            self.fit_loop.on_run_end()
        return results

    def _save_stopped(self) -> None:
        """A checkpoint of a training that was asked to stop, beside those of `ModelCheckpoint`; on every rank."""
        requeues = getattr(self._signal_connector, "requeues", False)
        path = self._checkpoint_connector.hpc_save_path(self.default_root_dir) if requeues else self._stopped_path()
        if path is None or keeps_nothing(self):
            log.warning("stopped without a checkpoint: the trainer has no ModelCheckpoint")
            return
        take_averages_back(self)
        began = time.monotonic()
        self.save_checkpoint(path)
        log.warning("%s written in %.1f s", path, time.monotonic() - began)
        if requeues and self.is_global_zero:
            requeue_job()

    def _stopped_path(self) -> str | None:
        callback = next(iter(model_checkpoints(self)), None)
        if callback is None or not callback.dirpath:
            return None
        name = callback.CHECKPOINT_NAME_LAST if callback.save_last is True else "stopped"
        callback.last_model_path = os.path.join(callback.dirpath, name + callback.FILE_EXTENSION)
        return callback.last_model_path

    @contextmanager
    def _owned_folder(self) -> Iterator[None]:
        """This run's folder: a new one, or one that nobody else writes into while this run does."""
        logger = next(iter(self.loggers), None)
        with ExitStack() as stack:
            if _is_first_process() and not keeps_nothing(self):
                claimed = claim_versions(self.loggers)
                numbered = logger is not None and logger in claimed
                stack.enter_context(released_if_refused(claimed, self._has_begun))
                folder = self.default_root_dir if logger is None else logger.log_dir
                # A logger without a folder gives each run an identity, by which the folder of its files is named.
                if folder is not None:
                    stack.enter_context(only_owner(Path(folder)))
                    remove_orphans(Path(folder), numbered=numbered)
            yield

    def _has_begun(self) -> bool:
        """Whether this `fit` has trained on a row; a resumed one counts on from its checkpoint."""
        return self._rows_before is not None and rows_so_far(self) > self._rows_before

    @contextmanager
    def _scoring(
        self, ckpt_path: str | Path | None, model: Any, weights_only: bool | None
    ) -> Iterator[str | Path | None]:
        """The checkpoint to validate or test, if it can be, while that is done."""
        refuse_root(self.default_root_dir)
        if not self._checkpoint_connector._user_managed:
            self._checkpoint_connector = NamedPathsConnector(self)
        with fetched(ckpt_path) as near:
            path = CheckpointChoice(self, trusted=weights_only is False).to_score(near, model)
            with storing(Path(self.default_root_dir), ELSEWHERE), ended_by_status(self):
                yield path


def _is_first_process() -> bool:
    """Of all nodes; known before the strategy counts them."""
    return getattr(rank_zero_only, "rank", 0) == 0 and os.environ.get("NODE_RANK", "0") == "0"
