"""Does it work? Benchmarks, metrics, callbacks and reports."""

from evaluation.benchmarks.longbench import LongBench
from evaluation.benchmarks.longbench_v2 import LongBenchV2
from evaluation.benchmarks.lveval import LVEval
from evaluation.benchmarks.needle import NeedleBenchmark, TextHaystack
from evaluation.benchmarks.qa import QA
from evaluation.callbacks.benchmark import BenchmarkCallback
from evaluation.callbacks.lm_eval import LMEvalCallback
from evaluation.callbacks.ready_made import (
    LongBenchCallback,
    LongBenchV2Callback,
    LVEvalCallback,
    NeedleCallback,
    QACallback,
)
from evaluation.prompting import truncate_middle

__all__ = [
    "QA",
    "BenchmarkCallback",
    "LMEvalCallback",
    "LVEval",
    "LVEvalCallback",
    "LongBench",
    "LongBenchCallback",
    "LongBenchV2",
    "LongBenchV2Callback",
    "NeedleBenchmark",
    "NeedleCallback",
    "QACallback",
    "TextHaystack",
    "truncate_middle",
]
