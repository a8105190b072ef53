"""Does it work? Benchmarks, metrics, callbacks and reports."""

from evaluation.callback import NeedleCallback
from evaluation.lm_eval_callback import LMEvalCallback
from evaluation.longbench import LongBench
from evaluation.longbench_v2 import LongBenchV2
from evaluation.lveval import LVEval
from evaluation.needle import NeedleBenchmark, TextHaystack
from evaluation.truncation import truncate_middle

__all__ = [
    "LMEvalCallback",
    "LVEval",
    "LongBench",
    "LongBenchV2",
    "NeedleBenchmark",
    "NeedleCallback",
    "TextHaystack",
    "truncate_middle",
]
