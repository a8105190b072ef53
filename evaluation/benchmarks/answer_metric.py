"""Scores short-answer tasks by sub-EM, F1 or EM, as papers report them, instead of the official score."""

from collections.abc import Collection, Sequence
from typing import Literal, get_args

from evaluation.benchmark import Benchmark, Example
from evaluation.metrics.answers import best_score
from evaluation.metrics.longbench import total
from evaluation.reports.report import Prediction
from lit_longpo.errors import InputError

Metric = Literal["official", "sub_em", "f1", "em"]


class WithAnswerMetric(Benchmark):
    """A benchmark whose `metric` can be chosen; a subclass gives `official_score`.

    Attributes:
        metric: "official", or of every accepted answer the one that fits best: "sub_em" (it is part of the response,
            both in SQuAD's normalisation, Chinese without punctuation), "f1" (tokens, Chinese characters), "em".
    """

    metric: Metric = "official"

    def official_score(self, example: Example, prediction: str) -> float:
        """Official score, 0 to 1."""
        raise NotImplementedError

    def score(self, example: Example, prediction: str) -> float:
        """Score by the chosen metric, 0 to 1."""
        if self.metric == "official":
            return self.official_score(example, prediction)
        return best_score(self.metric, prediction, example.answers)

    def table(self, predictions: Sequence[Prediction]) -> dict[str, float]:
        """The plain mean, "score" or by the metric's name; percent, two decimals."""
        name = "score" if self.metric == "official" else self.metric
        return {name: total([item.score for item in predictions])}

    @property
    def score_name(self) -> str:
        """The metric."""
        return self.metric

    @property
    def metric_deviations(self) -> tuple[str, ...]:
        """That the score is not the official one."""
        if self.metric == "official":
            return ()
        return (f"scored by {self.metric} of the accepted answer that fits best, not by the official metric",)


def with_short_answers(metric: Metric, known: Sequence[str], short: Collection[str]) -> tuple[str, ...]:
    """Tasks that a metric can score.

    Args:
        metric: which one.
        known: tasks of the benchmark.
        short: those of them with short answers, which others than the official metric are for.

    Raises:
        InputError: there is no such metric.
    """
    if metric not in get_args(Metric):
        raise InputError(f"expected a metric of {', '.join(get_args(Metric))}, got {metric!r}; correct `metric`")
    return tuple(known) if metric == "official" else tuple(task for task in known if task in short)
