"""A fit of three steps with a benchmark before and after; tests run it."""

from functools import partial
from pathlib import Path

import torch
from lightning.pytorch import Trainer, seed_everything
from support.parallel_worker import OBJECTIVES, STRATEGIES, Uneven
from support.quiet_cpu import QUIET_CPU

from evaluation import LongBenchCallback
from evaluation.running.batching import Batching
from lit_longpo.optimization import Optimization
from lit_longpo.policy import PolicyConfig


def run(strategy: str, model: str, benchmark: str, out: Path) -> None:
    """Reports go to `out/benchmarks`, of every process its own list of them to `out/<rank>.txt`."""
    seed_everything(0, verbose=False)
    sgd = Optimization(partial(torch.optim.SGD, lr=0.5), schedule="constant", warmup_fraction=0.0)
    module = OBJECTIVES["solopo"](policy=PolicyConfig(source=model), optimization=sgd)
    callback = LongBenchCallback(benchmark, batching=Batching(600, 64, 0), max_length=3000)
    trainer = Trainer(
        max_epochs=1,
        **QUIET_CPU,
        devices=1 if strategy == "single" else 2,
        strategy=STRATEGIES[strategy](),
        enable_checkpointing=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=out,
        callbacks=[callback],
    )
    trainer.fit(module, datamodule=Uneven(module.views, jump=False))
    told = [f"{report.step} {report.mean!r} {len(report.predictions)}" for report in callback.reports]
    (out / f"{trainer.global_rank}.txt").write_text("\n".join(told))
    trainer.strategy.barrier()
