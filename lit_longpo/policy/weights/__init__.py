"""A model's weights: read whole from files, packed into 4 bits, frozen in part, grown by rows for new tokens."""

from lit_longpo.policy.weights.quantization import Quantization
from lit_longpo.policy.weights.reading import hub_commit, load_weights

__all__ = ["Quantization", "hub_commit", "load_weights"]
