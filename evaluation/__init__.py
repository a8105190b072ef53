"""Measures whether training worked: benchmarks, metrics, callbacks and reports."""

from evaluation.benchmarks.babilong import BABILong
from evaluation.benchmarks.graphwalks import GraphWalks
from evaluation.benchmarks.infinitebench import InfiniteBench
from evaluation.benchmarks.longbench import LongBench
from evaluation.benchmarks.longbench_pro import LongBenchPro
from evaluation.benchmarks.longbench_v2 import LongBenchV2
from evaluation.benchmarks.lveval import LVEval
from evaluation.benchmarks.mrcr import MRCR
from evaluation.benchmarks.needle import NeedleBenchmark, TextHaystack
from evaluation.benchmarks.qa import QA
from evaluation.benchmarks.ruler import RULER
from evaluation.callbacks.benchmark import BenchmarkCallback
from evaluation.callbacks.lm_eval import LMEvalCallback
from evaluation.callbacks.named_files import (
    BABILongCallback,
    GraphWalksCallback,
    InfiniteBenchCallback,
    LongBenchProCallback,
    MRCRCallback,
    RULERCallback,
)
from evaluation.callbacks.ready_made import (
    LongBenchCallback,
    LongBenchV2Callback,
    LVEvalCallback,
    NeedleCallback,
    QACallback,
)
from evaluation.papers.logo import LOGOPaper
from evaluation.papers.longpo import LongPOPaper
from evaluation.papers.solopo import SoLoPOPaper
from evaluation.prompting import truncate_middle
from evaluation.short_context import ShortContext

__all__ = [
    "MRCR",
    "QA",
    "RULER",
    "BABILong",
    "BABILongCallback",
    "BenchmarkCallback",
    "GraphWalks",
    "GraphWalksCallback",
    "InfiniteBench",
    "InfiniteBenchCallback",
    "LMEvalCallback",
    "LOGOPaper",
    "LVEval",
    "LVEvalCallback",
    "LongBench",
    "LongBenchCallback",
    "LongBenchPro",
    "LongBenchProCallback",
    "LongBenchV2",
    "LongBenchV2Callback",
    "LongPOPaper",
    "MRCRCallback",
    "NeedleBenchmark",
    "NeedleCallback",
    "QACallback",
    "RULERCallback",
    "ShortContext",
    "SoLoPOPaper",
    "TextHaystack",
    "truncate_middle",
]
