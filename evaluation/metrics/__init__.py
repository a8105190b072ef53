"""Official scores of one prediction and of a file, as pure functions."""

from evaluation.metrics.scoring import aggregate, score
from evaluation.metrics.text import normalize_answer, sub_em

__all__ = ["aggregate", "normalize_answer", "score", "sub_em"]
