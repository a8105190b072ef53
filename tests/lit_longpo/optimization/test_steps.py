"""Steps of a whole fit, counted before it starts."""

from types import SimpleNamespace

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from support.preference_data import RandomPairs
from support.quiet_cpu import QUIET_CPU

from lit_longpo.objectives import ORPO
from lit_longpo.optimization import FusedAdamW, Optimization, Taken, num_optimizer_steps
from lit_longpo.policy import PolicyConfig


@pytest.mark.parametrize(("epochs", "steps"), [(1, 3), (2, 6)])
def test_the_end_of_an_epoch_is_a_step_too(epochs, steps):
    trainer = SimpleNamespace(
        max_epochs=epochs,
        max_steps=-1,
        limit_train_batches=1.0,
        accumulate_grad_batches=4,
        fit_loop=SimpleNamespace(_data_source=SimpleNamespace(dataloader=lambda: range(10))),
    )
    assert num_optimizer_steps(trainer) == steps


@pytest.mark.parametrize(
    ("taken", "steps"),
    [
        (Taken(3, 1, 0), 6),  # as it would have been
        (Taken(1, 0, 4), 6),
        (Taken(5, 1, 0), 8),  # of two rows each until here, or over other processes
        (Taken(3, 0, 6), 8),  # likewise, in mid-epoch: the next step has the rest of four rows
        (Taken(6, 2, 0), 6),
        (Taken(12, 0, 12), 15),  # `limit_train_batches` is 10 now: the epoch is over
        (Taken(5, 2, 4), 5),  # as the training is, with fewer epochs
    ],
)
def test_what_was_trained_in_other_steps_counts_as_it_was(taken, steps):
    """A run of twice the rows a step had used its schedule up in the middle of the training."""
    rows = SimpleNamespace(_data_source=SimpleNamespace(dataloader=lambda: range(10)))
    trainer = {"max_epochs": 2, "max_steps": -1, "limit_train_batches": 1.0, "accumulate_grad_batches": 4}
    assert num_optimizer_steps(SimpleNamespace(**trainer, fit_loop=rows), taken) == steps


def test_a_schedule_of_accumulation_is_counted_epoch_by_epoch(policy_folder, tmp_path):
    """Lightning gives no number there (Lightning#21534); the rate has to end at its floor all the same."""
    halving = Optimization(lambda params: FusedAdamW(params, lr=1e-2), schedule="linear", warmup_fraction=0.0)
    module = ORPO(policy=PolicyConfig(source=str(policy_folder)), optimization=halving)
    trainer = Trainer(
        max_epochs=3,
        **QUIET_CPU,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        limit_val_batches=0,
        default_root_dir=tmp_path,
        callbacks=GradientAccumulationScheduler({0: 4, 1: 2, 2: 3}),
    )
    trainer.fit(module, datamodule=RandomPairs(module.views))  # four rows an epoch
    assert num_optimizer_steps(trainer) == trainer.global_step == 1 + 2 + 2
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.0
