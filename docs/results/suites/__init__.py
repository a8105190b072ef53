"""What is run: a file for each suite."""

from results.cells import Suite
from results.suites import benchmarks, embedded, smollm2

SUITES: dict[str, Suite] = {
    suite.name: suite for suite in (smollm2.SUITE, smollm2.TWO_HOP, smollm2.SHARED, embedded.SUITE, benchmarks.SUITE)
}
