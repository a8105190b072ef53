"""Warns if the untrained policy already ranks nearly all pairs right: they have little left to teach it."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger
from torch import Tensor

from lit_longpo.batch import Context, Views
from lit_longpo.files.stored import stored_object, write_json
from lit_longpo.loggers.naming import place_of
from lit_longpo.run_folder import keeps_nothing
from lit_longpo.training.difficulty import Difficulty

log = logging.getLogger(__name__)

NUM_PAIRS = 32
_FEWEST = 8  # of a run that ends earlier
_BUILD = (
    "python -m lit_longpo build --config configs/build/solopo_chat.yaml --policy.source MODEL "
    "--source.paths '[questions.jsonl]'"
)


class PreferenceSignal:
    """Collects the margins of a run's first pairs and reports on them once.

    Values stay on the device until there are enough pairs, so that the host waits for the device only once. Each
    process collects its own pairs; the first process reports.

    Args:
        views: of the objective. With a reference log-probabilities are compared instead of rewards, which are all 0
            while the policy is its reference.

    Attributes:
        context: the context in which the objective compares both answers; the report names it.
        compares: whether the objective compares two answers at all.
        aligns: whether it also brings another context nearer to this one, which easy pairs do not hinder.
        folder: the run's folder, for `data_report.json`. Set from outside, because asking a trainer for it is a
            broadcast and only one process reports.
    """

    def __init__(self, views: Views) -> None:
        contexts: list[Context] = [view.context for view in views.policy if view.role == "rejected"]
        self.by_log_probs, self.compares = bool(views.reference), bool(contexts)
        self.context = (contexts or ["long"])[0]
        self.aligns = any(view.context != self.context for view in views.policy)
        self.folder: str | None = None
        self._margins: list[Tensor] = []
        self._num_pairs = self._steps = 0
        self._told = set[str]()  # loggers that have the numbers, in an earlier start too

    def add(self, values: dict[str, Tensor], step: int = 0) -> None:
        """Collect the margins of a row; metrics of objectives without rejected answers are ignored.

        Args:
            values: per-example metrics that the objective returned for the row. Shape of each: (B,).
            step: optimizer steps taken before the row.
        """
        needed = ("logps/chosen", "logps/rejected") if self.by_log_probs else ("rewards/margins",)
        if not values.keys() >= set(needed):
            return
        first, *others = (values[name].detach() for name in needed)
        self._margins.append(first - others[0] if others else first)
        self._num_pairs += len(first)
        self._steps = step

    def look(self, trainer: Trainer, *, last: bool = False) -> bool:
        """Report if there are enough pairs; waits for the device then.

        Args:
            trainer: its loggers and reports receive the numbers.
            last: no pair will follow, so a few are enough.

        Returns:
            Whether this is finished and need not be called again.
        """
        if self._num_pairs < (_FEWEST if last else NUM_PAIRS):
            return last
        if trainer.is_global_zero:
            difficulty = self.difficulty()
            if difficulty.is_easy:
                log.warning(_advice(difficulty, aligns=self.aligns))
            if not keeps_nothing(trainer) and trainer.loggers:
                self._log(difficulty, trainer.loggers)
                _report(difficulty, self._steps, self.folder)
        return True

    def state(self) -> dict[str, Any]:
        """The margins seen so far, for a checkpoint; waits for the device."""
        margins = [margin for part in self._margins for margin in part.float().tolist()]
        return {"margins": margins, "steps": self._steps, "told": sorted(self._told)}

    def go_on(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned; after a resume the policy is no longer untrained and cannot be asked again."""
        self._margins = [torch.tensor(state["margins"])]
        self._num_pairs, self._steps = len(state["margins"]), state["steps"]
        self._told = set(state.get("told", ()))

    def difficulty(self) -> Difficulty:
        """How hard the pairs seen so far are; waits for the device."""
        unit = "summed log-probabilities, nats" if self.by_log_probs else "the objective's rewards"
        measure = f"{unit}, {self.context} context"
        return Difficulty(tuple(self.state()["margins"]), measure)

    def _log(self, difficulty: Difficulty, loggers: Iterable[Logger]) -> None:
        """Log the numbers to every logger that has not had them yet, in this start of the run or in an earlier one."""
        numbers = {"ranked_right": difficulty.ranked_right, "median_margin": difficulty.median_margin}
        for logger in loggers:
            if (place := place_of(logger)) in self._told:
                continue
            self._told.add(place)
            logger.log_metrics({f"data/{name}_before_training": value for name, value in numbers.items()}, step=0)
            draw = getattr(getattr(logger, "experiment", None), "add_histogram", None)  # TensorBoard's
            if draw is not None:
                draw("data/margins_before_training", torch.tensor(difficulty.margins), 0)


def _advice(difficulty: Difficulty, *, aligns: bool) -> str:
    still = ", while aligning the other context with this one still can" if aligns else ""
    return (
        f"the untrained policy prefers the chosen answer in {difficulty.ranked_right:.0%} of the first "
        f"{len(difficulty.margins)} pairs ({difficulty.measure}): preferring it more teaches little{still}. Take "
        f"rejected answers that the model itself gives: {_BUILD} (or --policy and --source of yours)"
    )


def _report(difficulty: Difficulty, steps: int, folder: str | None) -> None:
    """Add the numbers to `data_report.json` if the run has one."""
    found = {**difficulty.as_json(), "within_steps": steps}
    if folder is not None and (report := Path(folder) / "data_report.json").exists():
        known = stored_object(report, "delete it: the next run writes it anew")
        write_json(report, {**known, "difficulty": found}, indent=2)
