"""RULER's 13 tasks, made by the official rules."""

from evaluation.benchmarks.ruler.benchmark import RULER

__all__ = ["RULER"]
