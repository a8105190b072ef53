"""LV-Eval from its official files: its configuration, and its questions at five levels of length."""

from evaluation.benchmarks.lveval.benchmark import LVEval

__all__ = ["LVEval"]
