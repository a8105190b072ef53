"""Trains over rows of unequal numbers of examples, and validates; in one process or several. Tests run it.

SGD, because AdamW would hide a wrong scale, and clipping, because it has to come after the right one.
"""

from functools import partial

import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer, seed_everything
from lightning.pytorch.strategies import ModelParallelStrategy
from support.preference_data import groups_for
from support.quiet_cpu import QUIET_CPU
from support.zero3 import releasing_zero3
from torchdata.stateful_dataloader import StatefulDataLoader

from lit_longpo.batch import PreferenceBatch
from lit_longpo.callbacks import NonFiniteGuard
from lit_longpo.engine import pack
from lit_longpo.objectives import ORPO
from lit_longpo.optimization import Optimization
from lit_longpo.policy import PolicyConfig
from lit_longpo.strategies import AnyDeviceDeepSpeedStrategy, gathered_state_dict

ACCUMULATE = 4
CLIP = 0.5
RATE = 0.1
# Examples in the rows of each rank: a full window, then one that the end of the epoch has cut short.
ROWS = {1: [[8, 1, 3, 1, 2]], 2: [[5, 1, 1, 4, 2], [3, 2, 6, 1, 1]]}
STRATEGIES = {
    "single": lambda: "auto",
    "ddp": lambda: "ddp",
    "fsdp2": lambda: ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1, process_group_backend="gloo"),
    "zero1": partial(AnyDeviceDeepSpeedStrategy, stage=1),
    "zero2": partial(AnyDeviceDeepSpeedStrategy, stage=2),
    "zero3": releasing_zero3,
    "zero1_offload": partial(AnyDeviceDeepSpeedStrategy, stage=1, offload_optimizer=True),
    "zero2_offload": partial(AnyDeviceDeepSpeedStrategy, stage=2, offload_optimizer=True),
    "zero3_offload": partial(releasing_zero3, offload_optimizer=True),
}


def num_ranks(strategy):
    """How many processes train."""
    return 1 if strategy == "single" else 2


def examples(ranks):
    """Numbers of the examples in each row, by rank; no two are the same."""
    start, rows = 0, []
    for sizes in ROWS[ranks]:
        rows.append([])
        for size in sizes:
            rows[-1].append(list(range(start, start + size)))
            start += size
    return rows


def row(numbers, views):
    """One packed row."""
    return PreferenceBatch(pack([group for number in numbers for group in groups_for(number, views.policy)]))


class Rows(LightningDataModule):
    """This rank's rows."""

    def __init__(self, views):
        super().__init__()
        self.views = views

    def train_dataloader(self):
        own = examples(self.trainer.world_size)[self.trainer.global_rank]
        return StatefulDataLoader([row(numbers, self.views) for numbers in own], batch_size=None)


class Record(Callback):
    """Whole weights and logged means after every optimizer step."""

    def __init__(self):
        self.weights, self.metrics, self.rates = [], [], []
        self._step = 0

    def on_train_batch_end(self, trainer, module, *_):
        if trainer.global_step > self._step:
            self._step = trainer.global_step
            self.rates.append(trainer.lr_scheduler_configs[0].scheduler.get_last_lr()[0])
            self.weights.append(gathered_state_dict(module.model, keep=True))
            seen = {name: float(value) for name, value in trainer.callback_metrics.items()}
            self.metrics.append(seen)


def train(strategy, folder, out):
    """Two epochs of five rows."""
    seed_everything(0, verbose=False)
    sgd = Optimization(partial(torch.optim.SGD, lr=RATE), schedule="constant", warmup_fraction=0.0)
    module, record = ORPO(policy=PolicyConfig(source=folder), optimization=sgd), Record()
    trainer = Trainer(
        max_epochs=2,
        **QUIET_CPU,
        devices=num_ranks(strategy),
        strategy=STRATEGIES[strategy](),
        accumulate_grad_batches=ACCUMULATE,
        gradient_clip_val=CLIP,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=out.parent,
        callbacks=[NonFiniteGuard(), record],  # after the guard, which asks DeepSpeed for its norm
    )
    trainer.fit(module, datamodule=Rows(module.views))
    if trainer.is_global_zero:
        torch.save((record.weights, record.metrics, record.rates), out)
    trainer.strategy.barrier()
