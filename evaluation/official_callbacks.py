"""LongBench, LongBench v2 and LV-Eval inside `fit`, `validate` and `test`."""

from typing import Any

from evaluation.callback import BenchmarkCallback
from evaluation.longbench import LongBench
from evaluation.longbench_v2 import LongBenchV2, Mode
from evaluation.lveval import LVEval


class LongBenchCallback(BenchmarkCallback):
    """LongBench or LongBench-E: `benchmark/longbench/<task>`, `benchmark/longbench_e/<task>/<length>`.

    Args:
        folder: in the official layout; `None` downloads (see `evaluation.downloads`).
        extended: LongBench-E.
        **options: of `BenchmarkCallback`.
    """

    def __init__(self, folder: str | None = None, extended: bool = False, **options: Any) -> None:
        super().__init__(LongBench(folder, extended=extended), **options)


class LongBenchV2Callback(BenchmarkCallback):
    """LongBench v2: `benchmark/longbench_v2/{Overall,Easy,Hard,Short,Medium,Long}`.

    Args:
        folder: in the official layout; `None` downloads (see `evaluation.downloads`).
        mode: "zero_shot", "chain_of_thought" or "no_context".
        **options: of `BenchmarkCallback`.
    """

    def __init__(self, folder: str | None = None, mode: Mode = "zero_shot", **options: Any) -> None:
        super().__init__(LongBenchV2(folder, mode=mode), **options)


class LVEvalCallback(BenchmarkCallback):
    """LV-Eval: `benchmark/lveval/<dataset>_<level>`.

    Args:
        folder: in the official layout; `None` downloads (see `evaluation.downloads`).
        datasets: which ones; `None` means all.
        levels: which ones, for example `[16k, 32k]`; `None` means all.
        **options: of `BenchmarkCallback`.
    """

    def __init__(
        self,
        folder: str | None = None,
        datasets: list[str] | None = None,
        levels: list[str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(LVEval(folder, datasets=datasets, levels=levels), **options)
