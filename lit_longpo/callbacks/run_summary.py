"""Prints the last lines of a training: where everything lies, and what to type next."""

import logging
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from lit_longpo.callbacks.save_pretrained import SavePretrained
from lit_longpo.checkpoints.loops import model_checkpoints
from lit_longpo.checkpoints.loops.last_steps import COUNTS
from lit_longpo.errors import DIED
from lit_longpo.loggers import pages_of
from lit_longpo.optimization.quantized import in_words
from lit_longpo.run_folder import folder_of_run, keeps_nothing, typed_path

log = logging.getLogger(__name__)
_REPORT = re.compile(r"(?P<title>.+)-step(?P<step>\d+)\.html")
_REPORTS = "benchmarks"  # their folder


class RunSummary(Callback):
    """Says on the first process where checkpoint, model, reports and pictures lie, and what to type next.

    Also when a run is stopped: by Ctrl-C, SIGTERM or an error after its first step, or by `trainer.max_time`. The
    command line adds it to every `fit`; a trial (`trainer.fast_dev_run`) keeps nothing, and nothing is said.
    """

    def __init__(self) -> None:
        self._folder = Path()
        self._began_at: int | None = None  # the step; `None` until training starts

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the run's folder while all processes are here: asking for it is a broadcast."""
        self._folder = folder_of_run(trainer)
        self._began_at = trainer.global_step

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """The run is over, and everything is written."""
        if stage == "fit":
            self._log(trainer, "finished")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """The run was stopped."""
        began = self._began_at is not None and trainer.global_step > self._began_at
        if trainer.state.fn == TrainerFn.FITTING and began:
            self._log(trainer, _ended_by(exception))

    def _log(self, trainer: Trainer, how: str) -> None:
        if trainer.is_global_zero and not keeps_nothing(trainer):
            log.info("\n".join(_lines(trainer, self._folder, how)))


def _ended_by(exception: BaseException) -> str:
    status = exception.code if isinstance(exception, SystemExit) else None
    if isinstance(exception, KeyboardInterrupt) or status == DIED + signal.SIGINT:
        return "interrupted"
    if isinstance(exception, SIGTERMException) or status == DIED + signal.SIGTERM:  # what else ended it says its status
        return f"stopped by {signal.Signals(int(status or 0) % DIED or signal.SIGTERM).name}"
    return "stopped by an error"


def _lines(trainer: Trainer, folder: Path, how: str) -> Iterator[str]:
    savers = [one for one in trainer.callbacks if isinstance(one, SavePretrained)]  # type: ignore[attr-defined]
    model = next((saver.written for saver in savers if saver.written), None)
    checkpoint = _checkpoint(trainer)
    yield f"{how} at step {trainer.global_step:,}: {typed_path(folder)}"
    yield from _stoppers(trainer)
    for name, path in {"checkpoint": checkpoint, "model": model, "reports": folder / _REPORTS}.items():
        if path is not None and path.exists():
            yield f"  {name:<11} {typed_path(path)}"
    yield from _best(trainer)
    for precision in filter(None, map(in_words, trainer.optimizers)):
        yield f"  {'optimizer':<11} {precision}"
    yield "what to type next:"
    if (activation := _activation()) is not None:
        yield f"  {activation}"
    for pages in pages_of(trainer.loggers, folder):
        if pages.viewer is not None:
            yield f"  {pages.viewer}  # curves and pictures"
        elif pages.pictures.exists():  # else no benchmark has written any
            yield f"  ls {typed_path(pages.pictures)}  # pictures"
    yield from (f"  python -m lit_longpo {command}" for command in _commands(folder, how, checkpoint, model))


def _stoppers(trainer: Trainer) -> Iterator[str]:
    """What ended the training before its steps were done, in Lightning's words."""
    for one in trainer.early_stopping_callbacks if trainer.should_stop else []:
        if one.stopping_reason_message:
            reason = one.stopping_reason_message.removesuffix(" Signaling Trainer to stop.")
            yield f"  {'ended by':<11} {type(one).__name__}: {reason}"


def _commands(folder: Path, how: str, checkpoint: Path | None, model: Path | None) -> Iterator[str]:
    """Our commands that go on from what the run has left."""
    if how != "finished" and checkpoint is not None:
        yield f"fit --config {typed_path(folder / 'config.yaml')} --ckpt_path {typed_path(checkpoint)}"
    yield from (f"evaluate --compare {before} {after}" for before, after in _compared(folder / _REPORTS))
    if model is None and checkpoint is not None:
        model = folder / "model"
        yield f"export --checkpoint {typed_path(checkpoint)} --output {typed_path(model)}"
    if model is not None:
        output = typed_path(folder / "qa")  # a folder is of one model: runs of a sweep
        yield (
            f"evaluate --config eval/qa --model {typed_path(model)} --benchmark.path QUESTIONS.jsonl --output {output}"
        )


def _activation() -> str | None:
    """The command that activates this Python's environment, if the shell uses another (after `make demo`)."""
    folder, found = Path(sys.executable).parent, shutil.which("python")
    if (found is not None and Path(found).parent == folder) or not (folder / "activate").exists():
        return None
    return f"source {typed_path(folder / 'activate')}"


def _checkpoint(trainer: Trainer) -> Path | None:
    """The last one, or the best if no last one is kept."""
    callbacks = model_checkpoints(trainer)
    paths = [Path(path) for item in callbacks for path in (item.last_model_path, item.best_model_path) if path]
    return next((path for path in paths if path.exists()), None)


def _best(trainer: Trainer) -> Iterator[str]:
    """The checkpoints that a metric chose, over all starts of a training, so some may lie in earlier folders."""
    for callback in model_checkpoints(trainer):
        if callback.monitor not in (None, *COUNTS) and Path(callback.best_model_path or "?").exists():
            score = float(cast(Tensor, callback.best_model_score))
            yield f"  {'best':<11} {typed_path(Path(callback.best_model_path))} ({callback.monitor} {score:.4g})"


def _compared(reports: Path) -> Iterator[tuple[str, str]]:
    """The first and the last report of each benchmark."""
    steps: dict[str, list[int]] = {}
    for match in filter(None, (_REPORT.fullmatch(path.name) for path in sorted(reports.glob("*.html")))):
        steps.setdefault(match["title"], []).append(int(match["step"]))
    for title, found in steps.items():
        if len(found) > 1:
            first, last = (typed_path(reports / f"{title}-step{step}.json") for step in (min(found), max(found)))
            yield first, last
