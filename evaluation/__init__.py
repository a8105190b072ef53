"""Does it work? Benchmarks, metrics, callbacks and reports."""

from evaluation.callback import NeedleCallback
from evaluation.longbench import LongBench
from evaluation.longbench_v2 import LongBenchV2
from evaluation.lveval import LVEval
from evaluation.needle import TextHaystack
from evaluation.truncation import truncate_middle

__all__ = ["LVEval", "LongBench", "LongBenchV2", "NeedleCallback", "TextHaystack", "truncate_middle"]
