"""When a run watches its first pairs: from a validation before training until enough were seen, over a resume too."""

from typing import Any

from lightning.pytorch import Trainer
from torch import Tensor

from lit_longpo.batch import Views
from lit_longpo.training.preference_signal import PreferenceSignal


class FirstPairs:
    """Those of the untrained policy, in training only."""

    def __init__(self) -> None:
        self._signal: PreferenceSignal | None = None
        self._seen: dict[str, Any] | None = None  # of a checkpoint, or when it was said

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
            self._signal.go_on(self._seen)
            self.look(trainer)

    def add(self, values: dict[str, Tensor], step: int = 0) -> None:
        """Per-example metrics of a row, after so many optimizer steps."""
        if self._signal is not None:
            self._signal.add(values, step)

    def look(self, trainer: Trainer) -> None:
        """Between two rows, look once at what the untrained policy made of the first pairs."""
        if self._signal is not None and self._signal.look(trainer):
            self._seen, self._signal = self._signal.state(), None

    def end(self, trainer: Trainer) -> None:
        """A short run has few pairs; what they say is said."""
        if self._signal is not None:
            self._signal.look(trainer, last=True)

    def state(self) -> dict[str, Any] | None:
        """For a checkpoint."""
        return self._seen if self._signal is None else self._signal.state()

    def load(self, state: dict[str, Any] | None) -> None:
        """Of a checkpoint."""
        self._seen = state
