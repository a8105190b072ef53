"""Checks that the private parts of Lightning that exact resuming relies on are still there.

Some of them are only set. If a later Lightning renames one, nothing would read the old name, and a resumed run would
silently skip rows; so a run is refused at the start instead.
"""

from collections.abc import Iterator
from operator import attrgetter

import lightning
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from lit_longpo.errors import InputError

_ROWS = "fit_loop.epoch_loop.batch_progress"
_EPOCHS = "fit_loop.epoch_progress"
_COUNTS = ("ready", "started", "processed", "completed")
_PARTS: dict[str, tuple[str, ...]] = {
    "": ("_checkpoint_connector", "_logger_connector", "_signal_connector"),
    "_checkpoint_connector": ("_ckpt_path", "_user_managed"),
    "fit_loop": (
        *("_can_stop_early", "_data_fetcher", "_data_source", "_resuming_from_checkpoint", "_should_accumulate"),
        *("on_advance_end", "reset_restart_stage", "restarted_mid_epoch", "restarting"),
    ),
    "fit_loop.epoch_loop": (
        *("_batches_that_stepped", "_broadcast_sigterm_tensor", "_should_check_val_fx"),
        *("reset_restart_stage", "restarted_on_train_batch_end"),
    ),
    "fit_loop.epoch_loop.val_loop": ("_has_run", "_restarting", "batch_progress", "reset_restart_stage"),
    _ROWS: ("is_last_batch",),
    **{f"{progress}.{of}": _COUNTS for progress in (_ROWS, _EPOCHS) for of in ("total", "current")},
}

_OF_MODEL_CHECKPOINT = (
    *("_every_n_epochs", "_last_global_step_saved", "_monitor_candidates", "_save_last_checkpoint"),
    *("_save_topk_checkpoint", "_should_save_on_train_epoch_end", "_should_skip_saving_checkpoint"),
)


def check_parts(trainer: Trainer) -> None:
    """Refuse a version of Lightning whose loops lack one of these parts."""
    if (gone := next(_gone(trainer), None)) is not None:
        raise InputError(
            f"expected the training loop of Lightning 2.6, in which a run goes on where it stopped, got that of "
            f"{lightning.__version__}, which has no `{gone}`; type: pip install 'lightning~=2.6.0'"
        )


def _gone(trainer: Trainer) -> Iterator[str]:
    for place, names in _PARTS.items():
        for name in names:
            path = f"{place}.{name}".removeprefix(".")
            try:
                attrgetter(path)(trainer)
            except AttributeError:
                yield f"Trainer.{path}"
    callback = ModelCheckpoint()
    yield from (f"ModelCheckpoint.{name}" for name in _OF_MODEL_CHECKPOINT if not hasattr(callback, name))
