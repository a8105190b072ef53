"""Counts the steps that an optimizer takes in a whole fit."""

import math
from dataclasses import dataclass

from lightning.pytorch import Trainer

from lit_longpo.strategies.accumulation import rows_of_a_step


@dataclass(frozen=True)
class Taken:
    """The steps, epochs and rows that a fit has behind it.

    Args:
        steps: of the optimizer.
        epochs: that are over.
        rows: of the epoch that is not.
    """

    steps: int = 0
    epochs: int = 0
    rows: int = 0


def rows_of_an_epoch(trainer: Trainer, loaded: int) -> int:
    """Rows that a process trains on in an epoch, of those that its loader has."""
    limit = trainer.limit_train_batches
    return min(loaded, limit) if isinstance(limit, int) else int(loaded * limit)


def num_optimizer_steps(trainer: Trainer, taken: Taken = Taken()) -> int:
    """Optimizer steps of the whole fit, known before the loop starts.

    Unlike `Trainer.estimated_stepping_batches` this leaves the loop's own loader alone: Lightning
    2.6 drops a resumed loader's state if that loader exists before the state is restored.

    Args:
        trainer: about to fit; what is left to do goes by its settings.
        taken: before a resume; other settings or numbers of processes may have made other steps of it.
    """
    if trainer.max_epochs in (None, -1):
        return trainer.max_steps
    loader = trainer.fit_loop._data_source.dataloader()
    batches = rows_of_an_epoch(trainer, len(loader))
    rows_a_step = [rows_of_a_step(trainer, epoch) for epoch in range(taken.epochs, int(trainer.max_epochs or 1))]
    left = [math.ceil(batches / rows) for rows in rows_a_step]
    if left:  # of the epoch that has begun; fewer rows than are behind it are none to come
        left[0] = max(0, left[0] - taken.rows // rows_a_step[0])
    steps = taken.steps + sum(left)
    return steps if trainer.max_steps == -1 else min(steps, trainer.max_steps)
