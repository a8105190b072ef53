"""Does it work? Benchmarks, metrics, callbacks and reports."""

from evaluation.callback import NeedleCallback
from evaluation.needle import TextHaystack

__all__ = ["NeedleCallback", "TextHaystack"]
