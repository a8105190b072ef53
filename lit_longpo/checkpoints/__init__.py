"""Checkpoints that are whole or absent, hold everything, and can be read without the run."""

from lit_longpo.checkpoints.loops.best import remember_best
from lit_longpo.checkpoints.loops.early_stops import keep_patience
from lit_longpo.checkpoints.loops.epoch_ends import begin_next_epoch, finish_epoch
from lit_longpo.checkpoints.progress import (
    log_from,
    record_due_validation,
    reopen_epoch,
    rows_of_half_a_step,
    rows_so_far,
    taken,
    validate_now,
    validated_rows,
    validation_due,
)
from lit_longpo.checkpoints.randomness import draw_apart, gather_random_states, restore_random_state
from lit_longpo.checkpoints.reading import load_initial_weights, read_record, read_weights, start_settings
from lit_longpo.checkpoints.record import run_record
from lit_longpo.checkpoints.trainer import ResumableTrainer
from lit_longpo.checkpoints.whole import fault, newest_whole

__all__ = [
    "ResumableTrainer",
    "begin_next_epoch",
    "draw_apart",
    "fault",
    "finish_epoch",
    "gather_random_states",
    "keep_patience",
    "load_initial_weights",
    "log_from",
    "newest_whole",
    "read_record",
    "read_weights",
    "record_due_validation",
    "remember_best",
    "reopen_epoch",
    "restore_random_state",
    "rows_of_half_a_step",
    "rows_so_far",
    "run_record",
    "start_settings",
    "taken",
    "validate_now",
    "validated_rows",
    "validation_due",
]
