"""What is run: a file for each suite."""

from results.cells import Suite
from results.suites import benchmarks, elsewhere, embedded, smollm2

_ALL = (smollm2.SUITE, smollm2.TWO_HOP, smollm2.SHARED, elsewhere.SUITE, embedded.SUITE, benchmarks.SUITE)
SUITES: dict[str, Suite] = {suite.name: suite for suite in _ALL}
