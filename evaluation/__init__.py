"""Does it work? Benchmarks, metrics, callbacks and reports."""

from evaluation.callback import BenchmarkCallback
from evaluation.lm_eval_callback import LMEvalCallback
from evaluation.longbench import LongBench
from evaluation.longbench_v2 import LongBenchV2
from evaluation.lveval import LVEval
from evaluation.needle import NeedleBenchmark, TextHaystack
from evaluation.needle_callback import NeedleCallback
from evaluation.official_callbacks import LongBenchCallback, LongBenchV2Callback, LVEvalCallback
from evaluation.truncation import truncate_middle

__all__ = [
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
    "TextHaystack",
    "truncate_middle",
]
