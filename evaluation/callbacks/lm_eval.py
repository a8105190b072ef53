"""Short contexts inside `fit`: named tasks of lm-evaluation-harness, through its Python API.

Preference training on long contexts can cost what a model knew about short ones; this shows it in the
same TensorBoard.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import LightningModule, Trainer

from evaluation.callbacks.scheduled import ScheduledCallback, log_scores, report_folder, step_of
from evaluation.reports.table import Section
from evaluation.running.harness import asked_by_harness, chat_options, cut_notes, require_harness, task_manager
from evaluation.running.harness_results import numbers
from lit_longpo.errors import InputError
from lit_longpo.files.stored import write_json
from lit_longpo.loggers import Table, pages_of
from lit_longpo.objectives import PreferenceModule
from lit_longpo.ranges import MOST, check_numbers, check_range
from lit_longpo.run_folder import keeps_nothing, results_folder

log = logging.getLogger(__name__)
_KEPT = ("results", "versions", "n-shot", "n-samples")


class LMEvalCallback(ScheduledCallback):
    """Scores of lm-evaluation-harness before training, at validation and at the end of `fit`.

    It logs `benchmark/lm_eval/<task>/<metric>` and writes `benchmarks/lm_eval-step<n>.json` beside the run. Every
    process asks every question, so sharded weights are gathered in step. Training is the same with and without it:
    random states are restored. The harness's own tasks download their data; tasks of a local folder need no network.

    Args:
        tasks: names, for example `[arc_challenge, hellaswag]`.
        include_path: folder of your own task YAML files; then only those are known.
        num_fewshot: solved examples in every prompt; `None` means what each task says.
        limit: questions of each task at most; `None` means all.
        batch_size: questions in one forward.
        apply_chat_template: wrap prompts in the tokenizer's chat template.
        before_training: also run on the untrained policy.
        every_n_validations: run at every n-th validation; 0 means only before and after training.
        label: distinguishes several of these callbacks: reports are `lm_eval-<label>-step<n>.json`, scalars
            `benchmark/lm_eval-<label>/...`.

    Raises:
        MissingPackageError: the extra `lm-eval` is not installed.
        InputError: no task is named.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        include_path: str | None = None,
        num_fewshot: int | None = None,
        limit: int | None = None,
        batch_size: int = 8,
        apply_chat_template: bool = False,
        before_training: bool = True,
        every_n_validations: int = 1,
        label: str = "",
    ) -> None:
        require_harness("LMEvalCallback")
        if not tasks:
            raise InputError("expected names of tasks, got none; set `tasks`, for example [arc_challenge]")
        self.tasks, self.include_path = list(tasks), include_path
        self.batch_size = batch_size
        check_numbers(self, "", batch_size=(1, MOST))
        for name, number, least in (("num_fewshot", num_fewshot, 0), ("limit", limit, 1)):
            if number is not None:
                check_range(name, number, "leave it out for what the task says", at_least=least, at_most=MOST)
        self.options: dict[str, Any] = {"num_fewshot": num_fewshot, "limit": limit}
        self.options |= {"apply_chat_template": apply_chat_template}
        super().__init__(before_training, every_n_validations, label)
        self.scores: dict[int, dict[str, float]] = {}
        self._manager: Any = None

    @property
    def name(self) -> str:
        """The harness's name."""
        return "lm_eval"

    @property
    def state_key(self) -> str:
        """Tells several of these callbacks apart in a checkpoint."""
        asked = {"tasks": self.tasks, "include_path": self.include_path, **self.options}
        return self._generate_state_key(label=self.label, **asked)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the tasks before any time is spent on training.

        Raises:
            MissingFileError: `include_path` is not there.
            InputError: a task is unknown, or another callback of the trainer has the same label.
        """
        self._manager = self._manager or task_manager(self.include_path, self.tasks)
        super().setup(trainer, pl_module, stage)

    def measure(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask the harness, keep and log its scores."""
        step = step_of(trainer, pl_module)
        log.info("%s: %s at step %d", self.title, ", ".join(self.tasks), step)
        first = cast(dict[str, Any], self._evaluate(cast(PreferenceModule, pl_module)))
        results = trainer.strategy.broadcast(first)  # the first process has them
        values = scores_of(results["results"], self.title)
        self.scores[step] = values
        log_scores(trainer, values, step)
        folder = report_folder(trainer)
        if trainer.is_global_zero:
            with results_folder(folder, trainer) as place:
                self._save(place / f"{self.title}-step{step}.json", step, results)
        shown = (f"{name.split('/', 2)[2]} {score:.3f}" for name, score in values.items())
        log.info("%s: %s", self.title, ", ".join(shown))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The trained policy, unless validation has just done it; then what was forgotten."""
        super().on_train_end(trainer, pl_module)
        folder = report_folder(trainer)  # on every process
        if not trainer.is_global_zero or len(self.scores) < 2:
            return
        table = forgetting(self.scores[min(self.scores)], self.scores[max(self.scores)])
        log.info("%s, after minus before: %s", self.title, ", ".join(f"{row[0]} {row[-1]}" for row in table.rows))
        if not keeps_nothing(trainer):
            for shown in pages_of(trainer.loggers, folder.parent):
                name, step = f"benchmark/{self.title}/forgetting", trainer.global_step
                shown.table(name, Table(table.header, table.rows, table.markdown()), step)

    def _evaluate(self, module: PreferenceModule) -> dict[str, Any] | None:
        """Results on the first process of a machine, nothing on the others."""
        from lm_eval import simple_evaluate

        assert module.prompt_format is not None
        in_chat = self.options["apply_chat_template"]
        with asked_by_harness(module.model, module.prompt_format, self.batch_size, in_chat=in_chat) as judge:
            asked = {**self.options, "limit": self.limit(self.options["limit"])}
            asked |= chat_options(module.prompt_format, in_chat)
            options = {**asked, "bootstrap_iters": 0, "log_samples": False, "task_manager": self._manager}
            results = simple_evaluate(model=judge, tasks=self.tasks, **options)
            for note in cut_notes(judge):
                log.warning("%s: %s", self.title, note)
        return None if results is None else {name: results[name] for name in _KEPT if name in results}

    def _save(self, path: Path, step: int, results: Mapping[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"step": step, "options": self.options, **results}, indent=1, default=str)


def scores_of(results: Mapping[str, Mapping[str, Any]], title: str = "lm_eval") -> dict[str, float]:
    """`benchmark/<title>/<task>/<metric>` of the harness's table; a filter's name follows the metric's.

    Standard errors and whatever is no number are left out.
    """
    return {
        f"benchmark/{title}/{task}/{_metric(name)}": float(value)
        for task, row in results.items()
        for name, value in numbers(row).items()
    }


def forgetting(before: Mapping[str, float], after: Mapping[str, float]) -> Section:
    """Scores before and after as the harness gives them, shares or not, and the difference."""
    rows = [
        (name.split("/", 2)[2], f"{value:.4f}", f"{after[name]:.4f}", f"{after[name] - value:+.4f}")
        for name, value in before.items()
        if name in after
    ]
    return Section("Forgetting", ("task", "before", "after", "change"), rows, "Numbers of lm-evaluation-harness.")


def _metric(name: str) -> str:
    metric, _, kind = name.partition(",")
    return metric if kind == "none" else f"{metric}_{kind}"
