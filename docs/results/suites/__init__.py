"""What is run: a file for each suite."""

from dataclasses import replace

from results.cells import Suite
from results.suites import elsewhere, embedded, pretraining, smollm2

# Results alone: the models were asked, and pairs built, with the template in quotes and with a backslash and an n for
# each line break. Nothing runs under this name.
_QUOTED = replace(smollm2.SHARED, name=f"{smollm2.SHARED.name}-quoted", make=lambda settings: ())
_ALL = (
    *(smollm2.SUITE, smollm2.TWO_HOP, smollm2.SHARED, *elsewhere.SUITES),
    *(_QUOTED, pretraining.SUITE, embedded.SUITE),
)
SUITES: dict[str, Suite] = {suite.name: suite for suite in _ALL}
