"""InfiniteBench from its official files: templates, records, and what is made of the scores."""

from evaluation.benchmarks.infinitebench.benchmark import InfiniteBench
from evaluation.benchmarks.infinitebench.templates import FAMILIES, Templates

__all__ = ["FAMILIES", "InfiniteBench", "Templates"]
