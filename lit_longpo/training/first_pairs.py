"""Decides when a run measures its first pairs with the untrained policy, and when it reports on them.

They are scored before step 1 if the data module can name the first rows; otherwise they are collected while the first
rows are trained on.
"""

from collections.abc import Callable
from itertools import islice
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

from lit_longpo.batch import PreferenceBatch, Views
from lit_longpo.engine import eval_mode
from lit_longpo.run_folder import keeps_nothing
from lit_longpo.training.preference_signal import NUM_PAIRS, PreferenceSignal
from lit_longpo.training.row_checks import data_attribute


class FirstPairs:
    """Collects what the untrained policy makes of the first pairs of a `fit`, and reports it once."""

    def __init__(self) -> None:
        self._signal: PreferenceSignal | None = None
        self._seen: dict[str, Any] | None = None  # from a checkpoint, or kept after the report
        self._asked = False  # pairs were scored before step 1, so no more will follow

    def begin(self, views: Views) -> None:
        """Start collecting in the sanity check, the validation that Lightning runs before training."""
        self._signal = PreferenceSignal(views)

    def watch(self, views: Views, trainer: Trainer) -> None:
        """Start collecting where training starts, or continue with what the checkpoint has seen.

        A resumed run whose checkpoint has seen no pairs collects none: its policy is trained already.
        """
        if trainer.global_step and not self._seen:
            self._signal = None
            return
        self._signal = self._signal or PreferenceSignal(views)
        self._signal.folder = trainer.log_dir  # asked on every rank: it broadcasts
        if self._seen:
            self._asked = bool(self._seen.get("asked"))
            self._signal.go_on(self._seen)
            self.look(trainer)

    def ask(self, score: Callable[[PreferenceBatch], dict[str, Tensor]], model: nn.Module, trainer: Trainer) -> None:
        """Score the rows that training begins with before step 1, while the policy is untrained.

        Does nothing if the data module cannot name its first rows; then they are collected during training.
        """
        first_rows = data_attribute(trainer, "first_rows", None)
        if first_rows is None or trainer.global_step or keeps_nothing(trainer):
            return
        if self._signal is None or not self._signal.compares:
            return
        most = trainer.max_steps * trainer.accumulate_grad_batches if trainer.max_steps > 0 else None
        with isolate_rng(), eval_mode(model), trainer.precision_plugin.forward_context():
            for batch in islice(first_rows(NUM_PAIRS), most):
                self.add(score(trainer.strategy.batch_to_device(batch)))
                self._asked = True
        self.look(trainer)

    def add(self, values: dict[str, Tensor], step: int = 0) -> None:
        """Collect the per-example metrics of a row. Shape of each: (B,). `step`: optimizer steps taken before it."""
        if self._signal is not None:
            self._signal.add(values, step)

    def look(self, trainer: Trainer) -> None:
        """Report once enough pairs are there; called between two rows."""
        if self._signal is not None and self._signal.look(trainer, last=self._asked):
            self._seen, self._signal = self.state(), None

    def end(self, trainer: Trainer) -> None:
        """Report at the end of a run that had too few pairs to report earlier."""
        if self._signal is not None:
            self._signal.look(trainer, last=True)

    def state(self) -> dict[str, Any] | None:
        """What a checkpoint keeps: the pairs seen so far; `None` if none are collected and none were."""
        return self._seen if self._signal is None else {**self._signal.state(), "asked": self._asked}

    def load(self, state: dict[str, Any] | None) -> None:
        """Restore what `state` returned."""
        self._seen = state
