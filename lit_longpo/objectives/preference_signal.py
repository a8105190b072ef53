"""Does the untrained policy get any pair wrong? If it does not, the pairs have little to teach it."""

import logging

from torch import Tensor

log = logging.getLogger(__name__)

_NUM_PAIRS = 32


class PreferenceSignal:
    """Watches the first pairs of a training run and says once if the policy prefers every chosen answer already.

    Values stay on the device until enough pairs are there, so that nothing waits for it but once.

    Args:
        by_log_probs: compare log-probabilities instead of rewards, which are all 0 while the policy is its reference.
    """

    def __init__(self, *, by_log_probs: bool) -> None:
        self.by_log_probs = by_log_probs
        self._right: list[Tensor] = []
        self._num_pairs = 0

    def add(self, values: dict[str, Tensor]) -> None:
        """Per-example metrics of a training row; those of an objective without rejected answers say nothing."""
        needed = ("logps/chosen", "logps/rejected") if self.by_log_probs else ("rewards/accuracies",)
        if not values.keys() >= set(needed):
            return
        first, *others = (values[name] for name in needed)
        right = (first > others[0]).to(first.dtype) if others else first
        self._right.append(right.detach().sum())
        self._num_pairs += len(right)

    def look(self) -> bool:
        """Once there are enough pairs, with one wait for the device, say what was seen; whether it was time."""
        if self._num_pairs < _NUM_PAIRS:
            return False
        right = sum(float(count) for count in self._right)
        if right == self._num_pairs:
            log.warning(
                "the untrained policy prefers the chosen answer in all of the first %d pairs: preferring it more "
                "teaches little. Take rejected answers that the model itself gives: python -m lit_longpo build "
                "--config configs/build/solopo.yaml (your model under `policy`, your questions under `source`)",
                self._num_pairs,
            )
        return True
