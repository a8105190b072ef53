"""Benchmarks inside `fit`: scores and figures into TensorBoard, reports beside the checkpoint."""

import logging
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from rich.console import Console

from evaluation.batching import Batching
from evaluation.benchmark import Benchmark, BenchmarkReport
from evaluation.needle import NeedleBenchmark
from evaluation.report import write_report
from evaluation.responses import Responses
from evaluation.runner import Runner
from evaluation.scalars import scalars
from evaluation.settings import RunSettings
from evaluation.summary import comparison, samples
from lit_longpo.objectives import PreferenceModule

log = logging.getLogger(__name__)


class BenchmarkCallback(Callback):
    """A benchmark before training, at validation, at the end of `fit`, and in `validate` and `test`.

    Logs `benchmark/<name>/<task>` and `benchmark/<name>/mean` (0 to 1), sample answers and figures, leaves
    reports in `benchmarks` beside the run, and prints before and after side by side. Training is the same
    with and without it: random states are restored. Several processes share the questions.

    Args:
        benchmark: what is asked; `LongBenchCallback` and its like make their own.
        tasks: of the benchmark; `None` means all.
        limit: examples of each task at most, the same random subset at every run.
        seed: of the subset.
        max_length: tokens that longer prompts are cut to in the middle; `None` means what the window leaves.
        max_minutes: of one run; what is not answered then is left out, and the report says so.
        batching: which prompts share a forward; `None` means the defaults.
        before_training: also run on the untrained policy.
        every_n_validations: run at every n-th validation; 0 means only before and after training.
        num_samples: answers shown as text.
    """

    def __init__(
        self,
        benchmark: Benchmark | NeedleBenchmark,
        *,
        tasks: list[str] | None = None,
        limit: int | None = None,
        seed: int = 0,
        max_length: int | None = None,
        max_minutes: float | None = None,
        batching: Batching | None = None,
        before_training: bool = True,
        every_n_validations: int = 1,
        num_samples: int = 8,
    ) -> None:
        self.benchmark = benchmark
        self.settings = RunSettings(tasks, limit, seed, max_length, max_minutes, batching or Batching())
        self.before_training, self.every_n_validations = before_training, every_n_validations
        self.num_samples = num_samples
        self.reports: list[BenchmarkReport] = []
        self._validations = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The untrained policy; not after a resume."""
        if self.before_training and trainer.global_step == 0:
            self._run(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """At every n-th validation, never in the sanity check."""
        if trainer.sanity_checking:
            return
        self._validations += 1
        standalone = trainer.state.fn == "validate"
        due = self.every_n_validations and self._validations % self.every_n_validations == 0
        if standalone or due:
            self._run(trainer, pl_module)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Once in `test`."""
        self._run(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The trained policy, unless validation has just done it; then before and after."""
        if not self.reports or self.reports[-1].step != trainer.global_step:
            self._run(trainer, pl_module)
        if trainer.is_global_zero and len(self.reports) > 1:
            Console().print(comparison(self.reports[0], self.reports[-1]))

    def ask(self, module: PreferenceModule, step: int) -> BenchmarkReport:
        """The report on a policy after so many optimizer steps."""
        assert isinstance(self.benchmark, Benchmark)
        assert module.prompt_format is not None
        runner = Runner(self.benchmark, module.model, module.prompt_format, self.settings, Responses())
        return runner.run(step=step, name=f"{module.policy.source} at step {step}")

    def figures(self, report: BenchmarkReport) -> Mapping[str, Figure]:
        """Pictures for TensorBoard and the report's folder, by what follows the benchmark's name."""
        return {}

    def _run(self, trainer: Trainer, pl_module: LightningModule) -> None:
        step, module = trainer.global_step, cast(PreferenceModule, pl_module)
        log.info("%s at step %d", self.benchmark.name, step)
        with undisturbed_rng():
            report = self.ask(module, step)
        if not report.predictions:
            log.warning("%s: nothing was answered within max_minutes; raise it", self.benchmark.name)
            return
        self.reports.append(report)
        self._log(trainer, report)

    def _log(self, trainer: Trainer, report: BenchmarkReport) -> None:
        values = scalars(report)
        trainer.callback_metrics.update({name: torch.tensor(score) for name, score in values.items()})
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)
        folder = Path(trainer.log_dir or trainer.default_root_dir) / "benchmarks"  # on every rank: it broadcasts
        if not trainer.is_global_zero:
            return
        write_report(report, folder)
        for name, figure in self.figures(report).items():
            figure.savefig(folder / f"{report.name}{name}-step{report.step}.png".replace("/", "-"), dpi=120)
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_figure(f"benchmark/{report.name}{name}", figure, trainer.global_step)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                text = samples(report, self.num_samples)
                logger.experiment.add_text(f"benchmark/{report.name}", text, trainer.global_step)
        log.info("%s: %s", report.name, ", ".join(f"{name} {score:.1%}" for name, score in _short(values).items()))


def _short(values: Mapping[str, float]) -> dict[str, float]:
    return {name.split("/", 2)[-1]: score for name, score in values.items()}


@contextmanager
def undisturbed_rng() -> Iterator[None]:
    """Restore Python's, NumPy's and torch's random states after the block."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
