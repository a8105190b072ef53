"""Official scores of one prediction and of a file, as pure functions and as torchmetrics."""

from evaluation.metrics.scoring import BenchmarkName, aggregate, score
from evaluation.metrics.text import normalize_answer, sub_em
from evaluation.metrics.torch_metrics import LongBenchEScore, LongBenchV2Accuracy, OfficialScore, SubEM

__all__ = [
    "BenchmarkName",
    "LongBenchEScore",
    "LongBenchV2Accuracy",
    "OfficialScore",
    "SubEM",
    "aggregate",
    "normalize_answer",
    "score",
    "sub_em",
]
