"""A model's weights: read whole from files, quantised to 4 bits, frozen in part, grown by rows for new tokens."""

from lit_longpo.policy.weights.freezing import freeze_weights
from lit_longpo.policy.weights.quantization import Quantization
from lit_longpo.policy.weights.reading import cached_commit, hub_commit, load_weights

__all__ = ["Quantization", "cached_commit", "freeze_weights", "hub_commit", "load_weights"]
