"""Benchmarks inside `fit`: scores and figures into TensorBoard, reports beside the checkpoint."""

import logging
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import LightningModule, Trainer
from rich.console import Console

from evaluation.benchmark import Benchmark, Example
from evaluation.callbacks.scheduled import ScheduledCallback, log_scores, report_folder, step_of
from evaluation.reports.before_after import page_of, write_page
from evaluation.reports.comparison import Comparison, change, compare, have_common, longer_answers
from evaluation.reports.logged import show, show_change, titled_scalars
from evaluation.reports.pages import Pages
from evaluation.reports.report import BenchmarkReport
from evaluation.reports.terminal import comparison, label_of
from evaluation.running.batching import Batching
from evaluation.running.preflight import check_lengths, extreme_examples
from evaluation.running.protocols import ProtocolName, check_protocol
from evaluation.running.runner import Runner
from evaluation.running.settings import RunSettings
from evaluation.running.store import Store
from lit_longpo.engine import base_model
from lit_longpo.loggers import pages_of
from lit_longpo.objectives import PreferenceModule
from lit_longpo.policy.window import readable_positions
from lit_longpo.ranges import MOST, check_numbers
from lit_longpo.run_folder import keeps_nothing, results_folder

log = logging.getLogger(__name__)

_ANSWERS = "benchmark_answers"  # of runs that have not written their report yet


class BenchmarkCallback(ScheduledCallback):
    """Runs a benchmark before training, at validation, at the end of `fit`, and in `validate` and `test`.

    It logs `benchmark/<name>/<task>` and `benchmark/<name>/mean` (0 to 1), sample answers and figures, writes reports
    to `benchmarks` beside the run, and prints before and after side by side. Training is the same with and without it:
    random states are restored. Several processes share the questions.

    Responses are stored until the report is written (`benchmark_answers` in the root folder), by everything they depend
    on, including the weights. So a `fit` that is killed during a benchmark continues with them when started again.

    Args:
        benchmark: what to run; `LongBenchCallback` and the like make their own.
        tasks: of the benchmark; `None` means all.
        limit: examples of each task at most, the same random subset at every run. A trial `fit` (`fast_dev_run`, or
            stopped within 10 steps) takes fewer.
        seed: of the subset.
        max_length: tokens of a prompt at most; longer ones are cut in the middle. `None` means the official number, or
            what the window allows.
        max_minutes: of one run; what is not answered then is left out, and the report says so.
        batching: which prompts share a forward; `None` means the defaults.
        before_training: also run on the untrained policy.
        every_n_validations: run at every n-th validation; 0 means only before and after training.
        num_samples: answers of each task shown as text.
        protocol: "served", or "official" as the benchmark's own script (see `RunSettings`).
        label: distinguishes several callbacks of one benchmark: reports are `<name>-<label>-step<n>.*`, scalars
            `benchmark/<name>-<label>/...`.
    """

    def __init__(
        self,
        benchmark: Benchmark,
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
        protocol: ProtocolName = "served",
        label: str = "",
    ) -> None:
        super().__init__(before_training, every_n_validations, label)
        self.benchmark = benchmark
        self.settings = RunSettings(tasks, limit, seed, max_length, max_minutes, batching or Batching(), protocol)
        check_protocol(protocol, benchmark)
        self.num_samples = num_samples
        check_numbers(self, "", num_samples=(0, MOST))
        self.reports: list[BenchmarkReport] = []
        self._extremes: list[Example] | None = None

    @property
    def name(self) -> str:
        """The benchmark's name."""
        return self.benchmark.name

    @cached_property
    def state_key(self) -> str:
        """Tells several of these callbacks apart in a checkpoint."""
        run, asked = self.settings, list(self.benchmark.identity)
        chosen: list[object] = [run.tasks, run.limit, run.seed, run.max_length, run.max_minutes]
        if run.protocol != "served":  # keys of before stay
            chosen.append(run.protocol)
        return self._generate_state_key(benchmark=self.benchmark.name, label=self.label, asked=asked, run=chosen)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs: the count of validations, and the scores before training."""
        return {**super().state_dict(), "before": asdict(self.reports[0]) if self.reports else None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting, and compare with the scores before training."""
        super().load_state_dict(state_dict)
        self.reports = [BenchmarkReport.of(state_dict["before"])] if state_dict["before"] else []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read every record, and build the prompts most likely to fail, before any time is spent on training.

        Raises:
            MissingFileError, MissingPackageError, InputError: see `extreme_examples` and `check_lengths`.
        """
        super().on_fit_start(trainer, pl_module)
        if self.is_off:
            return
        self._extremes = extreme_examples(self.benchmark, self.settings.chosen(self.benchmark))
        module = cast(PreferenceModule, pl_module)
        assert module.prompt_format is not None
        positions = readable_positions(base_model(module.model).config)
        check_lengths(self.benchmark, self.settings, module.prompt_format, positions, self._extremes)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The trained policy, unless validation has just done it; then before and after."""
        super().on_train_end(trainer, pl_module)
        folder = report_folder(trainer)  # on every process
        if trainer.is_global_zero and len(self.reports) > 1:
            before, after = self.reports[0], self.reports[-1]
            Console().print(comparison(before, after, self.title))
            log.info("%s, after minus before: %s", self.title, change(before, after))
            for text in longer_answers(before, after):
                log.warning("%s: %s", self.title, text)
            if have_common(before, after) and not keeps_nothing(trainer):
                self._keep_change(compare(before, after), trainer, folder)
            log.info(
                "%s: reports are %s", self.title, "not kept in a trial" if keeps_nothing(trainer) else f"in {folder}"
            )

    def _keep_change(self, found: Comparison, trainer: Trainer, folder: Path) -> None:
        """Before and after on one page, and its pictures and tables in the loggers."""
        page = page_of(found)
        write_page(page, folder, self.title)
        for shown in pages_of(trainer.loggers, folder.parent):
            show_change(shown, page, self.title, found.second.step)

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask, score and log."""
        step, module = step_of(trainer, pl_module), cast(PreferenceModule, pl_module)
        log.info("%s at step %d", self.title, step)
        assert module.prompt_format is not None
        settings = replace(self.settings, limit=self.limit(self.settings.limit))
        store = Store(self.benchmark, module.model, module.prompt_format, settings)
        root = None if keeps_nothing(trainer) else Path(trainer.default_root_dir) / _ANSWERS
        with store.open_until_done(root, self.title) as responses:
            asked = (self.benchmark, module.model, module.prompt_format, settings, responses)
            report = Runner(*asked, extremes=self._extremes).run(
                step=step, name=f"{module.policy.source}, {type(module).__name__} at step {step}"
            )
            self._keep(trainer, report)

    def _keep(self, trainer: Trainer, report: BenchmarkReport) -> None:
        if not report.predictions:
            log.warning("%s: nothing was answered within max_minutes; raise it", self.title)
            return
        self.reports.append(report)
        self._log(trainer, report)

    def _log(self, trainer: Trainer, report: BenchmarkReport) -> None:
        pages = Pages(report)
        values = titled_scalars(pages, self.title)
        log_scores(trainer, values, report.step)
        folder = report_folder(trainer)
        if not trainer.is_global_zero:
            return
        with results_folder(folder, trainer) as place:
            pages.write(place, self.label)
        if not keeps_nothing(trainer):
            for shown in pages_of(trainer.loggers, folder.parent):
                show(shown, pages, self.title, self.num_samples)
        texts = (f"{label_of(name)} {score:.1%}" for name, score in values.items())
        log.info("%s: %s", self.title, ", ".join(texts))
