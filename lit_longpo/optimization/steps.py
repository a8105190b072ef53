"""How many steps an optimizer takes in a whole fit."""

import math
from dataclasses import dataclass

from lightning.pytorch import Trainer

from lit_longpo.strategies.accumulation import rows_of_a_step


@dataclass(frozen=True)
class Taken:
    """What of a fit lies behind it.

    Args:
        steps: of the optimizer.
        epochs: that are over.
        rows: of the epoch that is not.
    """

    steps: int = 0
    epochs: int = 0
    rows: int = 0


_NOTHING = Taken()


def num_optimizer_steps(trainer: Trainer, taken: Taken = _NOTHING) -> int:
    """Optimizer steps of the whole fit, known before the loop starts.

    Args:
        trainer: about to fit; what is left to do goes by its settings.
        taken: before a resume; other settings or numbers of processes may have made other steps of it.

    Unlike `Trainer.estimated_stepping_batches` this leaves the loop's own loader alone: Lightning
    2.6 drops a resumed loader's state if that loader exists before the state is restored.
    """
    if trainer.max_epochs in (None, -1):
        return trainer.max_steps
    loader = trainer.fit_loop._data_source.dataloader()
    limit = trainer.limit_train_batches
    batches = min(len(loader), limit) if isinstance(limit, int) else int(len(loader) * limit)
    epochs = range(taken.epochs, int(trainer.max_epochs or 1))
    steps = taken.steps + sum(math.ceil(batches / rows_of_a_step(trainer, epoch)) for epoch in epochs)
    steps -= taken.rows // rows_of_a_step(trainer, taken.epochs)
    return steps if trainer.max_steps == -1 else min(steps, trainer.max_steps)
