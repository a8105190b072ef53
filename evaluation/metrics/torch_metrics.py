"""The pure scores as `torchmetrics.Metric`: sums and counts, added up over ranks."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from evaluation.metrics import longbench, longbench_v2
from evaluation.metrics.scoring import BenchmarkName, score
from evaluation.metrics.text import sub_em


class _GroupMeans(Metric):
    """Mean score of every group, for the CPU or CUDA (sums are float64).

    States, shape (num_groups,): `total`, the sum of scores, and `count`, the number of examples.
    """

    full_state_update = False
    higher_is_better = True
    total: Tensor
    count: Tensor

    def __init__(self, groups: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.groups = tuple(groups)
        for name in ("total", "count"):
            self.add_state(name, torch.zeros(len(self.groups), dtype=torch.float64), dist_reduce_fx="sum")

    def _add(self, value: float, *groups: str) -> None:
        for group in groups:
            index = self.groups.index(group)
            self.total[index] += value
            self.count[index] += 1

    def compute(self) -> dict[str, Tensor]:
        """Mean score of each group, 0 to 1; NaN for an empty one."""
        return dict(zip(self.groups, self.total / self.count, strict=True))


class _Mean(_GroupMeans):
    """Mean score of all examples."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(("all",), **kwargs)

    def compute(self) -> Tensor:  # type: ignore[override]
        """Mean score, 0 to 1; NaN before the first example. Shape: ()."""
        return (self.total / self.count)[0]


class SubEM(_Mean):
    """Mean substring exact match; keyword arguments are torchmetrics' own."""

    def update(self, prediction: str, answers: Sequence[str]) -> None:
        """Add one prediction."""
        self._add(sub_em(prediction, answers), "all")


class OfficialScore(_Mean):
    """Mean official score of one data set.

    A v2 response that is empty is left out, as in its predictions' file.

    Args:
        benchmark: as in `evaluation.metrics.score`.
        dataset: likewise.
        **kwargs: torchmetrics' own.
    """

    def __init__(self, benchmark: BenchmarkName, dataset: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.benchmark, self.dataset = benchmark, dataset

    def update(
        self,
        prediction: str,
        answers: Sequence[str],
        *,
        all_classes: Sequence[str] | None = None,
        answer_keywords: str | None = None,
    ) -> None:
        """Add one prediction; arguments as in `evaluation.metrics.score`."""
        value = score(
            self.benchmark,
            self.dataset,
            prediction,
            answers,
            all_classes=all_classes,
            answer_keywords=answer_keywords,
        )
        if prediction or self.benchmark != "longbench_v2":
            self._add(value, "all")


class LongBenchEScore(_GroupMeans):
    """Mean score of one LongBench-E task in each length bucket.

    Args:
        dataset: task, with or without `_e`.
        **kwargs: torchmetrics' own.
    """

    def __init__(self, dataset: str, **kwargs: Any) -> None:
        super().__init__(longbench.BUCKETS, **kwargs)
        self.dataset = dataset

    def update(
        self, prediction: str, answers: Sequence[str], length: int, *, all_classes: Sequence[str] | None = None
    ) -> None:
        """Add one prediction of a record with this `length`."""
        value = score("longbench", self.dataset, prediction, answers, all_classes=all_classes)
        self._add(value, longbench.bucket(length))


class LongBenchV2Accuracy(_GroupMeans):
    """Accuracy over all, by difficulty and by length; empty responses are left out."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(longbench_v2.GROUPS, **kwargs)

    def update(self, prediction: str, answer: str, *, difficulty: str, length: str) -> None:
        """Add one response; `difficulty` and `length` as the record gives them."""
        value = longbench_v2.score(prediction, [answer])
        if prediction:
            self._add(value, "Overall", *(longbench_v2.heading(group) for group in (difficulty, length)))
