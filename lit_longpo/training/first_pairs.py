"""When a run looks at its first pairs: before step 1, or from its first rows until enough were seen."""

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
from lit_longpo.training.row_checks import of_data


class FirstPairs:
    """Those of the untrained policy, in training only."""

    def __init__(self) -> None:
        self._signal: PreferenceSignal | None = None
        self._seen: dict[str, Any] | None = None  # of a checkpoint, or when it was said
        self._asked = False  # before step 1: no pair will follow

    def begin(self, views: Views) -> None:
        """A validation comes before training, and its pairs are the first."""
        self._signal = PreferenceSignal.of(views)

    def watch(self, views: Views, trainer: Trainer) -> None:
        """Training begins or goes on; a resumed run knows what was seen before."""
        if trainer.global_step and not self._seen:
            self._signal = None
            return
        self._signal = self._signal or PreferenceSignal.of(views)
        self._signal.folder = trainer.log_dir  # asked on every rank: it broadcasts
        if self._seen:
            self._asked = bool(self._seen.get("asked"))
            self._signal.go_on(self._seen)
            self.look(trainer)

    def ask(self, score: Callable[[PreferenceBatch], dict[str, Tensor]], model: nn.Module, trainer: Trainer) -> None:
        """What the untrained policy makes of the rows that training begins with, while it is untrained.

        A data module that cannot name its rows is watched while they are trained on.

        Args:
            score: per-example metrics of a row.
            model: the policy.
            trainer: about to train from step 0.
        """
        first_rows = of_data(trainer, "first_rows", None)
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
        """Per-example metrics of a row, after so many optimizer steps. Shape of each: (B,)."""
        if self._signal is not None:
            self._signal.add(values, step)

    def look(self, trainer: Trainer) -> None:
        """Between two rows, look once at what the untrained policy made of the first pairs."""
        if self._signal is not None and self._signal.look(trainer, last=self._asked):
            self._seen, self._signal = self.state(), None

    def end(self, trainer: Trainer) -> None:
        """A short run has few pairs; what they say is said."""
        if self._signal is not None:
            self._signal.look(trainer, last=True)

    def state(self) -> dict[str, Any] | None:
        """What a checkpoint keeps of it."""
        return self._seen if self._signal is None else {**self._signal.state(), "asked": self._asked}

    def load(self, state: dict[str, Any] | None) -> None:
        """Take what `state` has put into a checkpoint."""
        self._seen = state
