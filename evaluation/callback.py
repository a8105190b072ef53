"""Benchmarks inside `fit`: scores and figures into TensorBoard, reports beside the checkpoint."""

import logging
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console
from rich.table import Table

from evaluation.benchmark import BenchmarkReport
from evaluation.figures import heat_map
from evaluation.needle import Haystack, NeedleBenchmark, TextHaystack
from lit_longpo.objectives import PreferenceModule

log = logging.getLogger(__name__)


class NeedleCallback(Callback):
    """Needle-in-a-haystack accuracy before training, at validation and at the end of `fit`.

    Logs `benchmark/needle/<length>` and `benchmark/needle/mean`, a heat map and sample answers, and
    prints before and after side by side. Training is the same with and without it: random states
    are restored.

    Args:
        haystack: where needles and hay come from; `None` means plain prose (`TextHaystack`).
        lengths: tokens of the context.
        depths: relative positions of the needle.
        num_examples: questions in every (length, depth) cell.
        max_new_tokens: tokens of an answer at most.
        max_batch_tokens: padded prompt tokens of one generation batch.
        before_training: also run on the untrained policy.
        every_n_validations: run at every n-th validation; 0 means only before and after training.
        num_samples: answers shown as text.
    """

    def __init__(
        self,
        haystack: Haystack | None = None,
        lengths: Sequence[int] = (512, 1024, 2048, 4096),
        depths: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
        num_examples: int = 5,
        max_new_tokens: int = 16,
        max_batch_tokens: int = 16384,
        before_training: bool = True,
        every_n_validations: int = 1,
        num_samples: int = 8,
    ) -> None:
        self.benchmark = NeedleBenchmark(
            haystack or TextHaystack(),
            tuple(lengths),
            tuple(depths),
            num_examples,
            max_new_tokens,
            max_batch_tokens,
        )
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

    @property
    def state_key(self) -> str:
        """Tells several of these callbacks apart in a checkpoint."""
        haystack = type(self.benchmark.haystack).__name__
        return self._generate_state_key(haystack=haystack, lengths=self.benchmark.lengths)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs: the count of validations, and the scores before training."""
        return {"validations": self._validations, "before": asdict(self.reports[0]) if self.reports else None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting, and compare with the scores before training."""
        self._validations = state_dict["validations"]
        self.reports = [BenchmarkReport.of(state_dict["before"])] if state_dict["before"] else []

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Once in `test`."""
        self._run(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The trained policy, unless validation has just done it; then before and after."""
        if not self.reports or self.reports[-1].step != trainer.global_step:
            self._run(trainer, pl_module)
        if trainer.is_global_zero and len(self.reports) > 1:
            Console().print(comparison(self.reports[0], self.reports[-1]))

    def _run(self, trainer: Trainer, pl_module: LightningModule) -> None:
        log.info("needle: %d questions at step %d", self.benchmark.num_prompts, trainer.global_step)
        with undisturbed_rng():
            module = cast(PreferenceModule, pl_module)
            assert module.prompt_format is not None
            report = self.benchmark.run(module.model, module.prompt_format, step=trainer.global_step)
        self.reports.append(report)
        self._log(trainer, report)

    def _log(self, trainer: Trainer, report: BenchmarkReport) -> None:
        scores = {f"benchmark/needle/{length}": score for length, score in report.by_length().items()}
        scores["benchmark/needle/mean"] = report.mean
        trainer.callback_metrics.update({name: torch.tensor(score) for name, score in scores.items()})
        for logger in trainer.loggers:
            logger.log_metrics(scores, step=trainer.global_step)
        folder = Path(trainer.log_dir or trainer.default_root_dir) / "benchmarks"  # on every rank: it broadcasts
        if not trainer.is_global_zero:
            return
        report.save(folder / f"needle-step{report.step}.json")
        figure = heat_map(report)
        figure.savefig(folder / f"needle-step{report.step}.png", dpi=120)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_figure("benchmark/needle", figure, trainer.global_step)
                logger.experiment.add_text("benchmark/needle", samples(report, self.num_samples), trainer.global_step)
        log.info("needle: %s", ", ".join(f"{n:,}: {score:.1%}" for n, score in report.by_length().items()))


def comparison(before: BenchmarkReport, after: BenchmarkReport) -> Table:
    """Scores of each length before and after training, and the difference in points."""
    table = Table(title=f"{before.name}: step {before.step} and step {after.step}")
    for heading in ("length", "before", "after", "points"):
        table.add_column(heading, justify="right")
    rows = [(f"{length:,}", score, after.by_length()[length]) for length, score in before.by_length().items()]
    for name, first, last in [*rows, ("mean", before.mean, after.mean)]:
        table.add_row(name, f"{first:.1%}", f"{last:.1%}", f"{100 * (last - first):+.1f}")
    return table


def samples(report: BenchmarkReport, count: int) -> str:
    """Evenly spread questions and answers as a Markdown table."""
    step = max(1, len(report.predictions) // max(1, count))
    lines = [
        "| length | depth | question | expected | got | score |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for item in report.predictions[::step][:count]:
        cells = (
            item.length,
            item.depth,
            item.question,
            " / ".join(item.answers),
            item.prediction,
            item.score,
        )
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines)


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
