"""How many steps an optimizer takes in a whole fit."""

import math

from lightning.pytorch import Trainer

from lit_longpo.strategies.accumulation import rows_of_a_step


def num_optimizer_steps(trainer: Trainer) -> int:
    """Optimizer steps of the whole fit, known before the loop starts.

    Unlike `Trainer.estimated_stepping_batches` this leaves the loop's own loader alone: Lightning
    2.6 drops a resumed loader's state if that loader exists before the state is restored.
    """
    if trainer.max_epochs in (None, -1):
        return trainer.max_steps
    loader = trainer.fit_loop._data_source.dataloader()
    limit = trainer.limit_train_batches
    batches = min(len(loader), limit) if isinstance(limit, int) else int(len(loader) * limit)
    epochs = range(int(trainer.max_epochs or 1))
    steps = sum(math.ceil(batches / rows_of_a_step(trainer, epoch)) for epoch in epochs)
    return steps if trainer.max_steps == -1 else min(steps, trainer.max_steps)
