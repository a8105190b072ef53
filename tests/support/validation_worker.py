"""Validates and tests a few examples under every split of rows, in one process or several. Tests run it."""

import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import ModelParallelStrategy
from support.quiet_cpu import QUIET_CPU

from data_modules import SyntheticDataModule
from lit_longpo.checkpoints import ResumableTrainer
from lit_longpo.objectives import SoLoPO
from lit_longpo.policy import PolicyConfig

SPLITS = [(7, None), (7, 1), (7, 3), (1, None)]  # examples, and at most so many in a row
STRATEGIES = {
    1: lambda: "auto",
    2: lambda: "ddp",
    3: lambda: ModelParallelStrategy(data_parallel_size=3, tensor_parallel_size=1, process_group_backend="gloo"),
}


class TestedToo(SyntheticDataModule):
    """Its test split are the validation pairs."""

    def pairs(self, split):
        return super().pairs("val" if split == "test" else split)


def metrics_of(ranks, num_val, max_examples, folder):
    """What `validate` and `test` return, and what a checkpoint of `fit` was chosen by."""
    seed_everything(0, verbose=False)
    policy = PolicyConfig()
    module = SoLoPO(policy=policy)
    data = TestedToo(
        num_train=8,
        num_val=num_val,
        short_words=16,
        long_words=(24, 48),
        max_tokens=1024,
        max_examples=max_examples,
        views=module.views,
        prompt_format=policy.prompt_format(),
    )
    chosen = ModelCheckpoint(folder, monitor="val/loss")
    trainer = ResumableTrainer(
        max_steps=1,
        val_check_interval=1,
        **QUIET_CPU,
        devices=ranks,
        strategy=STRATEGIES[ranks](),
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        callbacks=[chosen],
    )
    validated = trainer.validate(module, datamodule=data, verbose=False)[0]
    tested = trainer.test(module, datamodule=data, verbose=False)[0]
    trainer.fit(module, datamodule=data)
    assert float(chosen.best_model_score) == float(trainer.callback_metrics["val/loss"])
    return validated, tested


def main(ranks, out):
    """Results of every split in OUT, from rank zero."""
    found = [metrics_of(ranks, *split, out.with_name(f"{ranks}-{number}")) for number, split in enumerate(SPLITS)]
    if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
        torch.save(found, out)
